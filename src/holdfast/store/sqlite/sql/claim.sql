-- Who gets which run. The conditions of the partial indexes are repeated word for word, or they are not used.

-- name: due_groups
-- Every (needs, queue, priority) with due or coming runs of an agent and version: some seeks each, whatever their number.
-- (A comparison of row values would seek by the first alone and scan all of it.)
WITH RECURSIVE heads (key) AS (
    SELECT (SELECT key FROM runs INDEXED BY runs_due
            WHERE agent = ?1 AND version = ?2
              AND claimable = 1 AND available_at_us IS NOT NULL AND state IN ('queued', 'waiting')
            ORDER BY needs, queue, priority LIMIT 1)
    UNION ALL
    SELECT coalesce(
        (SELECT key FROM runs INDEXED BY runs_due
         WHERE agent = ?1 AND version = ?2 AND needs = head.needs AND queue = head.queue AND priority > head.priority
           AND claimable = 1 AND available_at_us IS NOT NULL AND state IN ('queued', 'waiting')
         ORDER BY priority LIMIT 1),
        (SELECT key FROM runs INDEXED BY runs_due
         WHERE agent = ?1 AND version = ?2 AND needs = head.needs AND queue > head.queue
           AND claimable = 1 AND available_at_us IS NOT NULL AND state IN ('queued', 'waiting')
         ORDER BY queue, priority LIMIT 1),
        (SELECT key FROM runs INDEXED BY runs_due
         WHERE agent = ?1 AND version = ?2 AND needs > head.needs
           AND claimable = 1 AND available_at_us IS NOT NULL AND state IN ('queued', 'waiting')
         ORDER BY needs, queue, priority LIMIT 1))
    FROM heads JOIN runs AS head ON head.key = heads.key
)
SELECT runs.needs, runs.queue, runs.priority FROM heads JOIN runs ON runs.key = heads.key;

-- name: due
SELECT key, available_at_us, priority, queue FROM runs INDEXED BY runs_due
WHERE agent = ?1 AND version = ?2 AND needs = ?3 AND queue = ?4 AND priority = ?5
  AND claimable = 1 AND available_at_us IS NOT NULL AND state IN ('queued', 'waiting')
  AND available_at_us <= ?6
  AND (suspect = 0 OR position <> claimed_position)
  AND (deadline_at_us IS NULL OR deadline_at_us > ?6)
ORDER BY available_at_us LIMIT ?7;

-- name: due_suspects
SELECT key, available_at_us, priority, queue, needs FROM runs INDEXED BY runs_suspect
WHERE agent = ?1 AND version = ?2
  AND suspect = 1 AND claimable = 1 AND available_at_us IS NOT NULL AND state IN ('queued', 'waiting')
  AND available_at_us <= ?3
  AND position = claimed_position
  AND (deadline_at_us IS NULL OR deadline_at_us > ?3);

-- name: held_by
-- The runs that a worker holds.
SELECT key, coalesce(available_at_us, created_at_us), priority, queue, agent, version,
       claimable = 1 AND (deadline_at_us IS NULL OR deadline_at_us > ?2), suspect, live.position = claimed_position,
       EXISTS (SELECT 1 FROM wishes WHERE wishes.run = runs.key AND kill = runs.token), needs
FROM runs INDEXED BY runs_of_worker JOIN live ON live.run = key WHERE worker = ?1;

-- name: to_be_killed
SELECT 1 FROM wishes WHERE run = ? AND kill = ?;

-- name: load_of
-- How many runs the worker has, and whether one of them must run alone.
SELECT count(*), coalesce(max(suspect AND live.position = claimed_position), 0)
FROM runs INDEXED BY runs_of_worker JOIN live ON live.run = key WHERE worker = ?;

-- name: live
SELECT queue, count(*) FROM runs INDEXED BY runs_live WHERE state = 'running' GROUP BY queue;

-- name: limits
SELECT name, at_most FROM queues WHERE at_most IS NOT NULL;

-- name: key_of
SELECT key FROM runs WHERE id = ?;

-- name: fell_with
UPDATE workers SET fell_with = ? WHERE key = ?;

-- name: due_in_tree
-- The unfinished children of a run, and theirs, that are due or held by some worker.
WITH RECURSIVE tree (key) AS (
    SELECT child FROM children WHERE parent = ?1 AND standing = 'open'
    UNION ALL
    SELECT child FROM tree JOIN children ON parent = tree.key AND standing = 'open'
)
SELECT run_rows.* FROM tree CROSS JOIN run_rows ON run_rows.key = tree.key
WHERE (state = 'running' OR available_at_us <= ?2) AND (deadline_at_us IS NULL OR deadline_at_us > ?2);

-- name: continue_as
UPDATE runs SET version = ? WHERE key = ?;
