-- Children: see migrations/0005_children.sql.

-- name: of_id
SELECT runs.key, parent FROM runs LEFT JOIN children ON child = runs.key WHERE id = ?;

-- name: insert_child
INSERT INTO children (child, parent, on_parent_end) VALUES (?, ?, ?);

-- name: parent_of
SELECT parent, standing, outcome FROM children WHERE child = ?;

-- name: end
UPDATE children SET standing = 'ended', outcome = ?2 WHERE child = ?1;

-- name: open
UPDATE children SET standing = 'open', outcome = NULL, cancelled_by = NULL WHERE child = ?;

-- name: sweep
UPDATE children SET standing = 'swept' WHERE child = ?;

-- name: cancel
UPDATE children SET cancelled_by = ?2 WHERE child = ?1;

-- name: take_back
DELETE FROM signals WHERE run = ? AND n = ? AND consumed IS NULL;

-- name: forget_stale
DELETE FROM signals WHERE run = ?1 AND name = ?2 AND consumed IS NULL
  AND n IS NOT (SELECT outcome FROM children JOIN runs ON runs.key = child WHERE id = ?3 AND parent = ?1);

-- name: unfinished
SELECT child FROM children
WHERE parent = ? AND standing = 'open' AND on_parent_end = 'cancel' LIMIT ?;

-- name: swept
SELECT child FROM children
WHERE parent = ? AND standing = 'swept' LIMIT ?;

-- name: untold
SELECT child FROM children
WHERE parent = ? AND standing = 'ended' AND outcome IS NULL LIMIT ?;

-- name: unsuccessful
SELECT run_rows.* FROM run_rows JOIN children ON child = run_rows.key
WHERE id = ? AND parent = ? AND standing = 'ended' AND state IN ('failed', 'cancelled');

-- name: leave_behind
INSERT INTO children_behind (parent) VALUES (?) ON CONFLICT (parent) DO NOTHING;

-- name: forget_behind
DELETE FROM children_behind WHERE parent = ?;

-- name: behind
SELECT parent FROM children_behind LIMIT ?;

-- name: standing
SELECT whole_runs.*, children.standing, signals.n, parents.inbox_no
FROM whole_runs JOIN children ON child = whole_runs.key JOIN runs AS parents ON parents.key = parent
    LEFT JOIN signals ON signals.run = parent AND signals.n = outcome AND consumed IS NULL
WHERE whole_runs.id = ?2 AND parent = ?1;

-- name: kin
SELECT run_rows.*, parents.id, on_parent_end,
    EXISTS (SELECT 1 FROM queues WHERE name IN (run_rows.queue, '*') AND at_most = 0)
FROM runs AS parents JOIN children ON parent = parents.key JOIN run_rows ON run_rows.key = child
WHERE parents.id IN (SELECT value FROM json_each(?1)) AND (?2 = 0 OR standing = 'open') ORDER BY child LIMIT ?3;

-- name: parents
SELECT child, parents.id FROM children JOIN runs AS parents ON parents.key = parent
WHERE child IN (SELECT value FROM json_each(?));
