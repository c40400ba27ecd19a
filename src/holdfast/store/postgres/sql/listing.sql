-- Lists of runs, by any of these conditions.

-- name: runs
SELECT * FROM holdfast.run_rows {where} ORDER BY key DESC LIMIT greatest(?, 0);

-- What `runs` may ask for, each a condition on `run_rows`.

-- name: in_state
state = ?;

-- name: of_reasons
reason IN (SELECT value FROM jsonb_array_elements_text(?::jsonb));

-- name: for_people
key IN (SELECT runs.key FROM holdfast.runs WHERE state = 'waiting' AND reason NOT IN ('sleep', 'signal'));

-- name: of_agent
agent = ?;

-- name: of_agent_in_state
agent = ?;

-- name: served
(agent, version) IN (SELECT value ->> 0, value ->> 1 FROM jsonb_array_elements(?::jsonb));

-- name: asked_for
SELECT DISTINCT needs FROM holdfast.runs WHERE needs <> '' AND finished_at_us IS NULL;

-- name: fits
needs NOT IN (SELECT value FROM jsonb_array_elements_text(?::jsonb));

-- name: goes_on
(state = 'running' OR ((reason = 'limit' OR (available_at_us IS NOT NULL
    AND (reason IS NULL OR reason NOT IN (SELECT value FROM jsonb_array_elements_text(?::jsonb)) OR available_at_us <= ?)))
    AND NOT EXISTS (SELECT 1 FROM holdfast.queues WHERE name IN (run_rows.queue, '*') AND at_most = 0)));

-- name: in_queue
queue = ?;

-- name: with_prefix
id >= ? AND id < ?;

-- name: before
key < ?;

-- name: has_name
key IN (SELECT run FROM holdfast.tags WHERE name = ?);

-- name: has_tag
key IN (SELECT run FROM holdfast.tags WHERE name = ? AND value = ?);

-- name: has_text
concat_ws(chr(10), id, agent, step, holdfast.words_of(failure),
    (SELECT string_agg(name || '=' || value, chr(10)) FROM holdfast.tags WHERE tags.run = run_rows.key),
    (SELECT description FROM holdfast.progress WHERE progress.run = run_rows.key)) ILIKE ? ESCAPE '\';

-- name: on_top
NOT EXISTS (SELECT 1 FROM holdfast.children WHERE child = run_rows.key);

-- name: is_claimable
(SELECT claimable FROM holdfast.runs WHERE runs.key = run_rows.key) = ?;
