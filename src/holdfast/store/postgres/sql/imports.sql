-- Runs on their way in from another store: see migrations/0001_store.sql.

-- name: find
SELECT runs.key, sha256 FROM holdfast.runs JOIN holdfast.imports ON imports.run = runs.key WHERE id = $1;

-- name: insert_run
INSERT INTO holdfast.runs (id, agent, version, queue, priority, state, reason, claimable, created_at_us, token, position, event_no,
                  steps, step, checkpoint_n, attempts, failures, crashes, crashes_alone, suspect, claimed_position,
                  asked, wait_name, inbox_no, started_at_us, input_hash, needs)
VALUES ($1, $2, $3, $4, $5, 'queued', 'importing', false, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)
RETURNING key;

-- name: insert_payloads
INSERT INTO holdfast.run_payloads (run, input, input_blob, result, result_blob, failure, mismatch) VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: begin
INSERT INTO holdfast.imports (run, lines, state, reason, claimable, deadline_at_us, finished_at_us) VALUES ($1, 1, $2, $3, $4, $5, $6);

-- name: count
UPDATE holdfast.imports SET lines = lines + $1 WHERE run = $2 AND sha256 IS NULL;

-- name: insert_progress
INSERT INTO holdfast.progress (run, current, total, description, phase, started_at_us, updated_at_us) VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: insert_resolution
INSERT INTO holdfast.resolutions (run, n, resolution) VALUES ($1, $2, $3);

-- name: insert_cursor
INSERT INTO holdfast.cursors (run, identity, args_hash, cursor, position, at_us) VALUES ($1, $2, $3, $4, $5, $6);

-- name: insert_approval
INSERT INTO holdfast.approvals (run, n, segment, question_hash, question, options, context, status, closed_by, asked_at_us,
                       expires_at_us, escalate_at_us, escalate_to, escalated, choice, comment, answered_by, answered_at_us)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18);

-- name: insert_signal
INSERT INTO holdfast.signals (run, n, name, at_us, dedup, consumed, payload, blob) VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: insert_checkpoint
INSERT INTO holdfast.checkpoints (run, n, segment, name, at_us, event_no, keep, now_us, state, sha256, size_bytes, encoding, corrupt)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13);

-- name: insert_event
INSERT INTO holdfast.events (run, n, at_us, type, position, kind, status, segment, scope, name, key, occurrence, started_at_us, token,
                    args_hash, signal, superseded, payload, blob)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19);

-- name: insert_artifact
INSERT INTO holdfast.artifacts (run, position, name, content, media_type, at_us, superseded) VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: insert_link
INSERT INTO holdfast.children (child, parent, on_parent_end, standing, outcome, cancelled_by)
SELECT $1::bigint, key, $2, $3, $4::bigint, $5::bigint FROM holdfast.runs WHERE id = $6;

-- name: insert_budget
INSERT INTO holdfast.budgets (scope, run, soft_percent, per_us, since_us)
SELECT 'run:' || id, key, $1::bigint, $2::bigint, $3::bigint FROM holdfast.runs WHERE key = $4
RETURNING key;

-- name: insert_wait
INSERT INTO holdfast.budget_waits (run, budget) SELECT $1::bigint, key FROM holdfast.budgets WHERE scope = $2;

-- name: seal
-- The lines are counted again where they were written.
UPDATE holdfast.imports SET sha256 = $1 WHERE run = $2 AND sha256 IS NULL AND lines = $3;

-- name: end
UPDATE holdfast.runs SET (state, reason, claimable, deadline_at_us, finished_at_us) = (
    SELECT state, reason, claimable, deadline_at_us, finished_at_us FROM holdfast.imports WHERE run = runs.key)
WHERE key = $1;

-- name: drop
DELETE FROM holdfast.runs WHERE key = $1 AND reason = 'importing';
