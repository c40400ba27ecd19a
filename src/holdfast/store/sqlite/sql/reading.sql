-- name: run_key
SELECT key FROM runs WHERE id = ?;

-- name: input
SELECT input, input_blob FROM run_payloads JOIN runs ON runs.key = run WHERE id = ?;

-- name: progress
SELECT current, total, description, phase, started_at_us, updated_at_us FROM progress WHERE run = ?;

-- name: prunable
SELECT agent, count(*) FROM runs INDEXED BY runs_finished WHERE finished_at_us IS NOT NULL AND finished_at_us < ?
    AND NOT EXISTS (SELECT 1 FROM runs_needed WHERE run = runs.key)
GROUP BY agent ORDER BY agent;

-- name: runs_with_input
SELECT * FROM run_rows WHERE agent = ?1 AND key IN (
    SELECT key FROM runs INDEXED BY runs_unfinished WHERE agent = ?1 AND input_hash = ?2 AND finished_at_us IS NULL)
ORDER BY key DESC;

-- name: events
SELECT position, segment, scope, name, key, occurrence, kind, status, args_hash, started_at_us, signal, at_us, token,
       superseded, payload, blob, n, type
FROM events WHERE run = ? AND n > ? ORDER BY n LIMIT ?;

-- name: entries
SELECT position, segment, scope, name, key, occurrence, kind, status, args_hash, started_at_us, signal, at_us, token,
       superseded, payload, blob
FROM events WHERE run = ? AND position IS NOT NULL ORDER BY n;

-- name: entries_without_payloads
SELECT position, segment, scope, name, key, occurrence, kind, status, args_hash, started_at_us, signal, at_us, token,
       superseded, x'', NULL
FROM events WHERE run = ? AND position IS NOT NULL ORDER BY n;

-- name: once
SELECT position, segment, scope, name, key, occurrence, kind, status, args_hash, started_at_us, signal, at_us, token,
       superseded, payload, blob
FROM events INDEXED BY events_once
WHERE run = ? AND key = ? AND kind = 'once' AND superseded = 0 AND status IN ('ok', 'failed');

-- name: count_once
SELECT count(*) FROM events INDEXED BY events_once
WHERE run = ? AND kind = 'once' AND superseded = 0 AND status IN ('ok', 'failed');

-- name: checkpoints
SELECT n, segment, name, at_us, size_bytes, now_us, state, encoding, sha256 FROM checkpoints WHERE run = ? ORDER BY n;

-- name: checkpoint
SELECT n, segment, name, at_us, size_bytes, now_us, state, encoding, sha256 FROM checkpoints WHERE run = ? AND n = ?;

-- name: checkpoint_numbers
SELECT n FROM checkpoints WHERE run = ? ORDER BY n DESC;

-- name: asks
SELECT key, runs.token, coalesce(live.position, runs.position), state, asked, inbox_no, coalesce(throttled, 0),
       coalesce(kill = runs.token, 0)
FROM runs INDEXED BY runs_claimed_by LEFT JOIN live ON live.run = key LEFT JOIN wishes ON wishes.run = key
WHERE claimed_by = ?
ORDER BY key;

-- name: inbox_no
SELECT inbox_no FROM runs WHERE key = ?;

-- name: inbox
SELECT n, name, payload, blob, at_us FROM signals INDEXED BY signals_inbox WHERE run = ? AND consumed IS NULL ORDER BY n;

-- name: queues
SELECT name, max(at_most), sum(queued), sum(running) FROM (
    SELECT name, at_most, 0 AS queued, 0 AS running FROM queues
    UNION ALL
    SELECT queue, NULL, count(*), 0 FROM runs INDEXED BY runs_queued WHERE state = 'queued' GROUP BY queue
    UNION ALL
    SELECT queue, NULL, 0, count(*) FROM runs INDEXED BY runs_live WHERE state = 'running' GROUP BY queue
) GROUP BY name ORDER BY name;

-- name: runs_by_key
SELECT run_rows.* FROM run_rows JOIN json_each(?) AS wanted ON run_rows.key = wanted.value;
