-- name: expired
SELECT key FROM runs INDEXED BY runs_deadline
WHERE deadline_at_us IS NOT NULL AND finished_at_us IS NULL AND deadline_at_us <= ?
ORDER BY deadline_at_us LIMIT ?;

-- name: versions
-- Every (agent, version) with due or coming runs, one seek each.
WITH RECURSIVE heads (key) AS (
    SELECT (SELECT key FROM runs INDEXED BY runs_due
            WHERE claimable = 1 AND available_at_us IS NOT NULL AND state IN ('queued', 'waiting')
            ORDER BY agent, version LIMIT 1)
    UNION ALL
    SELECT (SELECT later.key FROM runs AS later INDEXED BY runs_due
            WHERE later.claimable = 1 AND later.available_at_us IS NOT NULL AND later.state IN ('queued', 'waiting')
              AND (later.agent, later.version) > (head.agent, head.version)
            ORDER BY later.agent, later.version LIMIT 1)
    FROM heads JOIN runs AS head ON head.key = heads.key
)
SELECT runs.agent, runs.version FROM heads JOIN runs ON runs.key = heads.key;

-- name: without_code
SELECT key FROM runs INDEXED BY runs_without_code WHERE reason = 'needs_code' AND agent = ? AND version = ? LIMIT ?;

-- name: served
SELECT key, serves FROM workers WHERE retired = 0;
