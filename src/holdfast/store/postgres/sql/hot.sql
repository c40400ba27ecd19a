-- What this store alone says: steps in one statement, and how a lost answer is found again.

-- name: record
-- Nothing is returned when the writer was given up; else the time, and the counters that each run had before.
SELECT now_us, moved_run, from_position, from_event FROM holdfast.record(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26,
    $27, $28, $29, $30, $31, $32, $33);

-- name: register
-- A row for this writer; those that nobody has written with for a week are of processes that are gone.
WITH gone AS (
    DELETE FROM holdfast.writers WHERE at_us < holdfast.now_us() - 604800000000 AND id <> $1
)
INSERT INTO holdfast.writers (id, n, at_us) VALUES ($1, $2, holdfast.now_us()) ON CONFLICT (id) DO NOTHING;

-- name: look_up
-- How far the writer came. Waits for a transaction that is under way, and counts, so that one on its way changes nothing.
UPDATE holdfast.writers SET n = n + 1, at_us = holdfast.now_us() WHERE id = $1 RETURNING n;

-- name: now
SELECT holdfast.now_us();

-- name: recorded_at
-- What became of the last entry of a Change.
SELECT n, at_us FROM holdfast.events WHERE run = $1 AND n >= $2 AND position = $2 AND token = $3 ORDER BY n LIMIT 1;

-- name: live_at
SELECT position, event_no FROM holdfast.live WHERE run = $1 AND token = $2;

-- name: record_step
-- A step by itself: no time when the writer was given up, no event when the fence refused it.
SELECT holdfast.record_step($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
                            $18, $19, $20);

-- name: hand_run
-- `decisions.hand_run` for many: opening the table with its indexes and laws costs more than a row of it.
UPDATE holdfast.runs SET
    state = handed.state, reason = handed.reason, token = handed.token, position = handed.position,
    event_no = handed.event_no, worker = handed.worker, available_at_us = handed.available_at_us,
    attempts = handed.attempts, failures = handed.failures, crashes = handed.crashes,
    crashes_alone = handed.crashes_alone, suspect = handed.suspect, claimed_position = handed.claimed_position,
    asked = handed.asked, wait_name = handed.wait_name, inbox_no = handed.inbox_no,
    deadline_at_us = handed.deadline_at_us, started_at_us = handed.started_at_us,
    finished_at_us = handed.finished_at_us, steps = handed.steps, step = handed.step,
    checkpoint_n = handed.checkpoint_n, claimed_by = handed.claimed_by
FROM unnest(
    $1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
    $9::bigint[], $10::bigint[], $11::bigint[], $12::boolean[], $13::bigint[], $14::text[], $15::text[],
    $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::text[], $22::bigint[],
    $23::bigint[], $24::bigint[]
) AS handed (
    state, reason, token, position, event_no, worker, available_at_us, attempts, failures, crashes, crashes_alone,
    suspect, claimed_position, asked, wait_name, inbox_no, deadline_at_us, started_at_us, finished_at_us, steps,
    step, checkpoint_n, claimed_by, key
) WHERE runs.key = handed.key;
