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
UPDATE holdfast.writers SET n = n + 2, at_us = holdfast.now_us() WHERE id = $1 RETURNING n;

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

-- name: insert_notes
-- `commit.insert_note` for many.
INSERT INTO holdfast.events (run, n, at_us, type, payload, blob)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bytea[], $6::bigint[]);

-- name: insert_events
-- `commit.insert_event` for many.
INSERT INTO holdfast.events (run, n, at_us, type, position, kind, status, segment, scope, name, key, occurrence, started_at_us,
                    token, args_hash, signal, payload, blob)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::bigint[],
                     $9::text[], $10::text[], $11::text[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bytea[], $16::bigint[],
                     $17::bytea[], $18::bigint[]);

-- name: settle_all_payloads
-- `decisions.settle_payloads` for many.
UPDATE holdfast.run_payloads SET result = told.result, result_blob = told.result_blob, failure = told.failure, mismatch = told.mismatch
FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::bytea[], $5::bigint[]) AS told (result, result_blob, failure, mismatch, run)
WHERE run_payloads.run = told.run;

-- name: advance_all
-- `commit.advance` for many, each of another run.
UPDATE holdfast.live SET position = live.position + move.entries, event_no = live.event_no + move.events,
    steps = live.steps + move.steps, step = move.step
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[])
    AS move (entries, events, steps, step, run, token, expected)
WHERE live.run = move.run AND live.token = move.token AND live.position = move.expected
RETURNING live.position, live.event_no, live.reason, live.run;

-- name: advance_all_notes
-- `commit.advance_notes` for many, each of another run.
UPDATE holdfast.live SET event_no = live.event_no + move.events, step = move.step
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[]) AS move (events, step, run, token)
WHERE live.run = move.run AND live.token = move.token
RETURNING live.position, live.event_no, live.reason, live.run;

-- name: rows_with_ties
-- `decisions.row_with_ties` of many: the first column says of which.
SELECT whole_runs.*,
       EXISTS (SELECT 1 FROM holdfast.lanes WHERE run = wanted.key),
       EXISTS (SELECT 1 FROM holdfast.approvals WHERE run = wanted.key),
       EXISTS (SELECT 1 FROM holdfast.children WHERE child = wanted.key)
           OR EXISTS (SELECT 1 FROM holdfast.children WHERE parent = wanted.key),
       EXISTS (SELECT 1 FROM holdfast.schedule_fires WHERE run_key = wanted.key)
           OR EXISTS (SELECT 1 FROM holdfast.schedules WHERE after IS NOT NULL)
FROM unnest($1::bigint[]) AS wanted (key), holdfast.the_whole_run(wanted.key) AS whole_runs;
