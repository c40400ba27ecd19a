-- Runs on their way to another store. What is read page by page is in the order of its number.

-- name: tree
WITH RECURSIVE tree (key, depth) AS (
    SELECT key, 0 FROM runs WHERE id = ?
    UNION ALL
    SELECT child, depth + 1 FROM tree JOIN children ON parent = tree.key
)
SELECT run_rows.*, parents.id FROM tree JOIN run_rows ON run_rows.key = tree.key
    LEFT JOIN children ON child = tree.key LEFT JOIN runs AS parents ON parents.key = parent
ORDER BY depth, tree.key;

-- name: head
SELECT whole_runs.*, runs.claimable, parents.id, on_parent_end, standing, outcome, cancelled_by,
       EXISTS (SELECT 1 FROM children_behind WHERE children_behind.parent = runs.key)
FROM whole_runs JOIN runs ON runs.key = whole_runs.key
    LEFT JOIN children ON child = runs.key LEFT JOIN runs AS parents ON parents.key = children.parent
WHERE whole_runs.id = ?;

-- name: tags
SELECT name, value FROM tags WHERE run = ?;

-- name: budget
SELECT key, soft_percent, per_us, since_us FROM budgets WHERE run = ?;

-- name: reserved
SELECT unit, sum(amount) FROM reserved WHERE budget = ? GROUP BY unit;

-- name: waits_for
SELECT scope FROM budget_waits JOIN budgets ON budgets.key = budget WHERE budget_waits.run = ?;

-- name: resolutions
SELECT n, resolution FROM resolutions WHERE run = ? ORDER BY n;

-- name: approvals
SELECT n, segment, question_hash, question, options, context, status, closed_by, asked_at_us, expires_at_us,
       escalate_at_us, escalate_to, escalated, choice, comment, answered_by, answered_at_us
FROM approvals WHERE run = ? ORDER BY n;

-- name: signals
SELECT n, name, at_us, dedup, consumed, payload, blob FROM signals WHERE run = ? AND n > ? ORDER BY n LIMIT ?;

-- name: checkpoints
SELECT checkpoints.n, segment, name, at_us, event_no, keep, now_us, state, sha256, size_bytes, encoding, corrupt, turns
FROM checkpoints LEFT JOIN checkpoint_turns AS known ON known.run = checkpoints.run AND known.n = checkpoints.n
WHERE checkpoints.run = ? AND checkpoints.n > ? ORDER BY checkpoints.n LIMIT ?;

-- name: events
SELECT n, at_us, type, position, kind, status, segment, scope, name, key, occurrence, started_at_us, token, args_hash,
       signal, superseded, payload, blob
FROM events WHERE run = ? AND n > ? ORDER BY n LIMIT ?;

-- name: artifacts
SELECT position, name, contents.sha256, media_type, at_us, superseded
FROM artifacts JOIN contents ON contents.key = content WHERE run = ? AND position > ? ORDER BY position LIMIT ?;
