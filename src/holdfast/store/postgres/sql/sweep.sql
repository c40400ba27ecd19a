-- name: expired
SELECT key FROM holdfast.runs
WHERE deadline_at_us IS NOT NULL AND finished_at_us IS NULL AND deadline_at_us <= $1
ORDER BY deadline_at_us LIMIT greatest($2, 0);

-- name: versions
-- Every (agent, version) with due or coming runs, two seeks each.
WITH RECURSIVE heads (key) AS (
    SELECT (SELECT key FROM holdfast.runs
            WHERE claimable AND available_at_us IS NOT NULL AND state IN ('queued', 'waiting')
            ORDER BY agent, version LIMIT 1)
    UNION ALL
    SELECT coalesce(
        (SELECT key FROM holdfast.runs
         WHERE agent = head.agent AND version > head.version
           AND claimable AND available_at_us IS NOT NULL AND state IN ('queued', 'waiting')
         ORDER BY version LIMIT 1),
        (SELECT key FROM holdfast.runs
         WHERE agent > head.agent
           AND claimable AND available_at_us IS NOT NULL AND state IN ('queued', 'waiting')
         ORDER BY agent, version LIMIT 1))
    FROM heads JOIN holdfast.runs AS head ON head.key = heads.key
)
SELECT runs.agent, runs.version FROM heads JOIN holdfast.runs ON runs.key = heads.key;

-- name: without_code
SELECT key FROM holdfast.runs WHERE reason = 'needs_code' AND agent = $1 AND version = $2 LIMIT greatest($3, 0);

-- name: served
SELECT key, serves FROM holdfast.workers WHERE NOT retired;
