-- Lists of runs, by any of these conditions.

-- name: runs
SELECT * FROM run_rows {where} ORDER BY key DESC LIMIT ?;

-- What `runs` may ask for, each a condition on `run_rows`.

-- name: in_state
state = ?;

-- name: of_reasons
reason IN (SELECT value FROM json_each(?));

-- name: for_people
key IN (SELECT key FROM runs INDEXED BY runs_for_people WHERE state = 'waiting' AND reason NOT IN ('sleep', 'signal'));

-- name: of_agent
agent = ?;

-- name: of_agent_in_state
-- With a state the index on it is the better one, which SQLite cannot know: `+` hides the other.
+agent = ?;

-- name: served
(agent, version) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?));

-- name: asked_for
SELECT DISTINCT needs FROM runs INDEXED BY runs_needing WHERE needs <> '' AND finished_at_us IS NULL;

-- name: fits
needs NOT IN (SELECT value FROM json_each(?));

-- name: goes_on
(state = 'running' OR ((reason = 'limit' OR (available_at_us IS NOT NULL
    AND (reason IS NULL OR reason NOT IN (SELECT value FROM json_each(?)) OR available_at_us <= ?)))
    AND NOT EXISTS (SELECT 1 FROM queues WHERE name IN (run_rows.queue, '*') AND at_most = 0)));

-- name: in_queue
queue = ?;

-- name: with_prefix
id >= ? AND id < ?;

-- name: before
key < ?;

-- name: has_name
key IN (SELECT run FROM tags WHERE name = ?);

-- name: has_tag
key IN (SELECT run FROM tags WHERE name = ? AND value = ?);

-- name: has_text
concat_ws(char(10), id, agent, step, CAST(failure AS TEXT) ->> '$.type', CAST(failure AS TEXT) ->> '$.message',
    (SELECT group_concat(name || '=' || value, char(10)) FROM tags WHERE tags.run = run_rows.key),
    (SELECT description FROM progress WHERE progress.run = run_rows.key)) LIKE ? ESCAPE '\';

-- name: on_top
NOT EXISTS (SELECT 1 FROM children WHERE child = run_rows.key);

-- name: is_claimable
(SELECT claimable FROM runs WHERE runs.key = run_rows.key) = ?;
