-- Children: see migrations/0005_children.sql.

-- name: of_id
SELECT runs.key, parent FROM holdfast.runs LEFT JOIN holdfast.children ON child = runs.key WHERE id = $1;

-- name: insert_child
INSERT INTO holdfast.children (child, parent, on_parent_end) VALUES ($1, $2, $3);

-- name: parent_of
SELECT parent, standing, outcome FROM holdfast.children WHERE child = $1;

-- name: end
UPDATE holdfast.children SET standing = 'ended', outcome = $2 WHERE child = $1;

-- name: open
UPDATE holdfast.children SET standing = 'open', outcome = NULL, cancelled_by = NULL WHERE child = $1;

-- name: sweep
UPDATE holdfast.children SET standing = 'swept' WHERE child = $1;

-- name: cancel
UPDATE holdfast.children SET cancelled_by = $2 WHERE child = $1;

-- name: take_back
DELETE FROM holdfast.signals WHERE run = $1 AND n = $2 AND consumed IS NULL;

-- name: forget_stale
DELETE FROM holdfast.signals WHERE run = $1 AND name = $2 AND consumed IS NULL
  AND n IS DISTINCT FROM (SELECT outcome FROM holdfast.children JOIN holdfast.runs ON runs.key = child WHERE id = $3 AND parent = $1);

-- name: unfinished
SELECT child FROM holdfast.children
WHERE parent = $1 AND standing = 'open' AND on_parent_end = 'cancel' ORDER BY child LIMIT greatest($2, 0);

-- name: swept
SELECT child FROM holdfast.children
WHERE parent = $1 AND standing = 'swept' ORDER BY child LIMIT greatest($2, 0);

-- name: untold
SELECT child FROM holdfast.children
WHERE parent = $1 AND standing = 'ended' AND outcome IS NULL ORDER BY child LIMIT greatest($2, 0);

-- name: unsuccessful
SELECT run_rows.* FROM holdfast.run_rows JOIN holdfast.children ON child = run_rows.key
WHERE id = $1 AND parent = $2 AND standing = 'ended' AND state IN ('failed', 'cancelled');

-- name: leave_behind
INSERT INTO holdfast.children_behind (parent) VALUES ($1) ON CONFLICT (parent) DO NOTHING;

-- name: forget_behind
DELETE FROM holdfast.children_behind WHERE parent = $1;

-- name: behind
SELECT parent FROM holdfast.children_behind LIMIT greatest($1, 0);

-- name: standing
SELECT whole_runs.*, children.standing, signals.n, parents.inbox_no
FROM holdfast.whole_runs JOIN holdfast.children ON child = whole_runs.key JOIN holdfast.runs AS parents ON parents.key = parent
    LEFT JOIN holdfast.signals ON signals.run = parent AND signals.n = outcome AND consumed IS NULL
WHERE whole_runs.id = $2 AND parent = $1;

-- name: kin
SELECT run_rows.*, parents.id, on_parent_end,
    EXISTS (SELECT 1 FROM holdfast.queues WHERE name IN (run_rows.queue, '*') AND at_most = 0)
FROM holdfast.runs AS parents JOIN holdfast.children ON parent = parents.key JOIN holdfast.run_rows ON run_rows.key = child
WHERE parents.id IN (SELECT value FROM jsonb_array_elements_text($1::jsonb)) AND (NOT $2::boolean OR standing = 'open') ORDER BY child LIMIT greatest($3, 0);

-- name: parents
SELECT child, parents.id FROM holdfast.children JOIN holdfast.runs AS parents ON parents.key = parent
WHERE child IN (SELECT value::bigint FROM jsonb_array_elements_text($1::jsonb));
