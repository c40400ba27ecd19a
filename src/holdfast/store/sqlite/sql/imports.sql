-- Runs on their way in from another store: see migrations/0014_imports.sql.

-- name: find
SELECT runs.key, sha256 FROM runs JOIN imports ON imports.run = runs.key WHERE id = ?;

-- name: insert_run
INSERT INTO runs (id, agent, version, queue, priority, state, reason, claimable, created_at_us, token, position, event_no,
                  steps, step, checkpoint_n, attempts, failures, crashes, crashes_alone, suspect, claimed_position,
                  asked, wait_name, inbox_no, started_at_us, input_hash, needs)
VALUES (?, ?, ?, ?, ?, 'queued', 'importing', 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
RETURNING key;

-- name: insert_payloads
INSERT INTO run_payloads (run, input, input_blob, result, result_blob, failure, mismatch) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: begin
INSERT INTO imports (run, lines, state, reason, claimable, deadline_at_us, finished_at_us) VALUES (?, 1, ?, ?, ?, ?, ?);

-- name: count
UPDATE imports SET lines = lines + ? WHERE run = ? AND sha256 IS NULL;

-- name: insert_progress
INSERT INTO progress (run, current, total, description, phase, started_at_us, updated_at_us) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: insert_resolution
INSERT INTO resolutions (run, n, resolution) VALUES (?, ?, ?);

-- name: insert_cursor
INSERT INTO cursors (run, identity, args_hash, cursor, position, at_us) VALUES (?, ?, ?, ?, ?, ?);

-- name: insert_approval
INSERT INTO approvals (run, n, segment, question_hash, question, options, context, status, closed_by, asked_at_us,
                       expires_at_us, escalate_at_us, escalate_to, escalated, choice, comment, answered_by, answered_at_us)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_signal
INSERT INTO signals (run, n, name, at_us, dedup, consumed, payload, blob) VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_checkpoint
INSERT INTO checkpoints (run, n, segment, name, at_us, event_no, keep, now_us, state, sha256, size_bytes, encoding, corrupt)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_event
INSERT INTO events (run, n, at_us, type, position, kind, status, segment, scope, name, key, occurrence, started_at_us, token,
                    args_hash, signal, superseded, payload, blob)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_artifact
INSERT INTO artifacts (run, position, name, content, media_type, at_us, superseded) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: insert_link
INSERT INTO children (child, parent, on_parent_end, standing, outcome, cancelled_by)
SELECT ?, key, ?, ?, ?, ? FROM runs WHERE id = ?;

-- name: insert_budget
INSERT INTO budgets (scope, run, soft_percent, per_us, since_us)
SELECT 'run:' || id, key, ?, ?, ? FROM runs WHERE key = ?
RETURNING key;

-- name: insert_wait
INSERT INTO budget_waits (run, budget) SELECT ?, key FROM budgets WHERE scope = ?;

-- name: seal
-- The lines are counted again where they were written.
UPDATE imports SET sha256 = ? WHERE run = ? AND sha256 IS NULL AND lines = ?;

-- name: end
UPDATE runs SET (state, reason, claimable, deadline_at_us, finished_at_us) = (
    SELECT state, reason, claimable, deadline_at_us, finished_at_us FROM imports WHERE run = runs.key)
WHERE key = ?;

-- name: drop
DELETE FROM runs WHERE key = ? AND reason = 'importing';
