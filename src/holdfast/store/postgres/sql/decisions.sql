-- What a rule decided about a run.

-- name: settle_run
UPDATE holdfast.runs SET state = $1, reason = $2, token = $3, position = $4, event_no = $5, worker = $6, available_at_us = $7, attempts = $8,
    failures = $9, crashes = $10, crashes_alone = $11, suspect = $12, claimed_position = $13, asked = $14, wait_name = $15,
    inbox_no = $16, deadline_at_us = $17, started_at_us = $18, finished_at_us = $19, steps = $20,
    step = $21, checkpoint_n = $22
WHERE key = $23;

-- name: hand_run
-- The same, with who claimed it last: a worker, or nobody any more.
UPDATE holdfast.runs SET state = $1, reason = $2, token = $3, position = $4, event_no = $5, worker = $6, available_at_us = $7, attempts = $8,
    failures = $9, crashes = $10, crashes_alone = $11, suspect = $12, claimed_position = $13, asked = $14, wait_name = $15,
    inbox_no = $16, deadline_at_us = $17, started_at_us = $18, finished_at_us = $19, steps = $20,
    step = $21, checkpoint_n = $22, claimed_by = $23
WHERE key = $24;

-- name: let_any_worker_claim
UPDATE holdfast.runs SET claimable = true WHERE key = $1 AND NOT claimable;

-- name: settle_payloads
UPDATE holdfast.run_payloads SET result = $1, result_blob = $2, failure = $3, mismatch = $4 WHERE run = $5;

-- name: supersede
UPDATE holdfast.events SET superseded = true WHERE run = $1 AND n = (    -- an entry's number in the feed is never below its position
    SELECT n FROM holdfast.events WHERE run = $1 AND n >= $2 AND position = $2 ORDER BY n LIMIT 1);

-- name: return_signal
UPDATE holdfast.signals SET consumed = NULL WHERE run = $1 AND consumed = $2 RETURNING name;

-- name: cancelled_by
SELECT id FROM holdfast.children JOIN holdfast.runs ON runs.key = child WHERE parent = $1 AND cancelled_by = $2;

-- name: insert_resolution
INSERT INTO holdfast.resolutions (run, n, resolution)
SELECT $1::bigint, coalesce(max(n), 0) + 1, $2::bytea FROM holdfast.resolutions WHERE run = $1;

-- name: run_by_key
SELECT * FROM holdfast.the_run($1);

-- name: row_with_ties
-- What else its move concerns: a line, questions, parent or children, schedules. For nearly every run it is nothing.
SELECT whole_runs.*,
       EXISTS (SELECT 1 FROM holdfast.lanes WHERE run = $1),
       EXISTS (SELECT 1 FROM holdfast.approvals WHERE run = $1),
       EXISTS (SELECT 1 FROM holdfast.children WHERE child = $1) OR EXISTS (SELECT 1 FROM holdfast.children WHERE parent = $1),
       EXISTS (SELECT 1 FROM holdfast.schedule_fires WHERE run_key = $1) OR EXISTS (SELECT 1 FROM holdfast.schedules WHERE after IS NOT NULL)
FROM holdfast.the_whole_run($1) AS whole_runs;

-- name: run_by_id
SELECT * FROM holdfast.the_run_called($1);

-- name: shown_by_id
-- The same for who only looks: nothing is held.
SELECT * FROM holdfast.whole_runs WHERE id = $1;
