-- name: expired
SELECT key FROM runs INDEXED BY runs_deadline
WHERE deadline_at_us IS NOT NULL AND finished_at_us IS NULL AND deadline_at_us <= ?
ORDER BY deadline_at_us LIMIT ?;

-- name: versions
-- Every (agent, version) with due or coming runs, two seeks each.
WITH RECURSIVE heads (key) AS (
    SELECT (SELECT key FROM runs INDEXED BY runs_due
            WHERE claimable = 1 AND available_at_us IS NOT NULL AND state IN ('queued', 'waiting')
            ORDER BY agent, version LIMIT 1)
    UNION ALL
    SELECT coalesce(
        (SELECT key FROM runs INDEXED BY runs_due
         WHERE agent = head.agent AND version > head.version
           AND claimable = 1 AND available_at_us IS NOT NULL AND state IN ('queued', 'waiting')
         ORDER BY version LIMIT 1),
        (SELECT key FROM runs INDEXED BY runs_due
         WHERE agent > head.agent
           AND claimable = 1 AND available_at_us IS NOT NULL AND state IN ('queued', 'waiting')
         ORDER BY agent, version LIMIT 1))
    FROM heads JOIN runs AS head ON head.key = heads.key
)
SELECT runs.agent, runs.version FROM heads JOIN runs ON runs.key = heads.key;

-- name: without_code
SELECT key FROM runs INDEXED BY runs_without_code WHERE reason = 'needs_code' AND agent = ? AND version = ? LIMIT ?;

-- name: served
SELECT key, serves FROM workers WHERE retired = 0;
