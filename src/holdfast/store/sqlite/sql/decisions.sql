-- What a rule decided about a run.

-- name: settle_run
UPDATE runs SET state = ?, reason = ?, token = ?, position = ?, event_no = ?, worker = ?, available_at_us = ?, attempts = ?,
    failures = ?, crashes = ?, crashes_alone = ?, suspect = ?, claimed_position = ?, asked = ?, wait_name = ?,
    inbox_no = ?, deadline_at_us = ?, started_at_us = ?, finished_at_us = ?, steps = ?,
    step = ?, checkpoint_n = ?
WHERE key = ?;

-- name: hand_run
-- The same, with who claimed it last: a worker, or nobody any more.
UPDATE runs SET state = ?, reason = ?, token = ?, position = ?, event_no = ?, worker = ?, available_at_us = ?, attempts = ?,
    failures = ?, crashes = ?, crashes_alone = ?, suspect = ?, claimed_position = ?, asked = ?, wait_name = ?,
    inbox_no = ?, deadline_at_us = ?, started_at_us = ?, finished_at_us = ?, steps = ?,
    step = ?, checkpoint_n = ?, claimed_by = ?
WHERE key = ?;

-- name: let_any_worker_claim
UPDATE runs SET claimable = 1 WHERE key = ? AND claimable = 0;

-- name: settle_payloads
UPDATE run_payloads SET result = ?, result_blob = ?, failure = ?, mismatch = ? WHERE run = ?;

-- name: supersede
UPDATE events SET superseded = 1 WHERE rowid = (    -- an entry's number in the feed is never below its position
    SELECT rowid FROM events WHERE run = ?1 AND n >= ?2 AND position = ?2 ORDER BY n LIMIT 1);

-- name: return_signal
UPDATE signals SET consumed = NULL WHERE run = ? AND consumed = ? RETURNING name;

-- name: cancelled_by
SELECT id FROM children JOIN runs ON runs.key = child WHERE parent = ? AND cancelled_by = ?;

-- name: insert_resolution
INSERT INTO resolutions (run, n, resolution)
SELECT ?1, coalesce(max(n), 0) + 1, ?2 FROM resolutions WHERE run = ?1;

-- name: run_by_key
SELECT * FROM run_rows WHERE key = ?;

-- name: row_with_ties
-- What else its move concerns: a line, questions, parent or children, schedules. For nearly every run it is nothing.
SELECT whole_runs.*,
       EXISTS (SELECT 1 FROM lanes WHERE run = ?1),
       EXISTS (SELECT 1 FROM approvals WHERE run = ?1),
       EXISTS (SELECT 1 FROM children WHERE child = ?1) OR EXISTS (SELECT 1 FROM children WHERE parent = ?1),
       EXISTS (SELECT 1 FROM schedule_fires WHERE run_key = ?1) OR EXISTS (SELECT 1 FROM schedules WHERE after IS NOT NULL)
FROM whole_runs WHERE key = ?1;

-- name: run_by_id
SELECT * FROM whole_runs WHERE id = ?;

-- name: shown_by_id
-- The same for who only looks: nothing is held.
SELECT * FROM whole_runs WHERE id = ?;
