-- Runs on their way to another store. What is read page by page is in the order of its number.

-- name: tree
WITH RECURSIVE tree (key, depth) AS (
    SELECT key, 0 FROM holdfast.runs WHERE id = $1
    UNION ALL
    SELECT child, depth + 1 FROM tree JOIN holdfast.children ON parent = tree.key
)
SELECT run_rows.*, parents.id FROM tree JOIN holdfast.run_rows ON run_rows.key = tree.key
    LEFT JOIN holdfast.children ON child = tree.key LEFT JOIN holdfast.runs AS parents ON parents.key = parent
ORDER BY depth, tree.key;

-- name: head
SELECT whole_runs.*, runs.claimable, parents.id, on_parent_end, standing, outcome, cancelled_by,
       EXISTS (SELECT 1 FROM holdfast.children_behind WHERE children_behind.parent = runs.key)
FROM holdfast.whole_runs JOIN holdfast.runs ON runs.key = whole_runs.key
    LEFT JOIN holdfast.children ON child = runs.key LEFT JOIN holdfast.runs AS parents ON parents.key = children.parent
WHERE whole_runs.id = $1;

-- name: tags
SELECT name, value FROM holdfast.tags WHERE run = $1;

-- name: budget
SELECT key, soft_percent, per_us, since_us FROM holdfast.budgets WHERE run = $1;

-- name: reserved
SELECT unit, sum(amount) FROM holdfast.reserved WHERE budget = $1 GROUP BY unit;

-- name: waits_for
SELECT scope FROM holdfast.budget_waits JOIN holdfast.budgets ON budgets.key = budget WHERE budget_waits.run = $1;

-- name: resolutions
SELECT n, resolution FROM holdfast.resolutions WHERE run = $1 ORDER BY n;

-- name: approvals
SELECT n, segment, question_hash, question, options, context, status, closed_by, asked_at_us, expires_at_us,
       escalate_at_us, escalate_to, escalated, choice, comment, answered_by, answered_at_us
FROM holdfast.approvals WHERE run = $1 ORDER BY n;

-- name: signals
SELECT n, name, at_us, dedup, consumed, payload, blob FROM holdfast.signals WHERE run = $1 AND n > $2 ORDER BY n LIMIT greatest($3, 0);

-- name: checkpoints
SELECT checkpoints.n, segment, name, at_us, event_no, keep, now_us, state, sha256, size_bytes, encoding, corrupt, turns
FROM holdfast.checkpoints LEFT JOIN holdfast.checkpoint_turns AS known ON known.run = checkpoints.run AND known.n = checkpoints.n
WHERE checkpoints.run = $1 AND checkpoints.n > $2 ORDER BY checkpoints.n LIMIT greatest($3, 0);

-- name: events
SELECT n, at_us, type, position, kind, status, segment, scope, name, key, occurrence, started_at_us, token, args_hash,
       signal, superseded, payload, blob
FROM holdfast.events WHERE run = $1 AND n > $2 ORDER BY n LIMIT greatest($3, 0);

-- name: artifacts
SELECT position, name, contents.sha256, media_type, at_us, superseded
FROM holdfast.artifacts JOIN holdfast.contents ON contents.key = content WHERE run = $1 AND position > $2 ORDER BY position LIMIT greatest($3, 0);
