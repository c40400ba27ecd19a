-- name: run_key
SELECT key FROM holdfast.runs WHERE id = $1;

-- name: input
SELECT input, input_blob FROM holdfast.run_payloads JOIN holdfast.runs ON runs.key = run WHERE id = $1;

-- name: progress
SELECT current, total, description, phase, started_at_us, updated_at_us FROM holdfast.progress WHERE run = $1;

-- name: prunable
SELECT agent, count(*) FROM holdfast.runs WHERE finished_at_us IS NOT NULL AND finished_at_us < $1
    AND NOT EXISTS (SELECT 1 FROM holdfast.runs_needed WHERE run = runs.key)
GROUP BY agent ORDER BY agent;

-- name: runs_with_input
SELECT * FROM holdfast.run_rows WHERE agent = $1 AND key IN (
    SELECT key FROM holdfast.runs WHERE agent = $1 AND input_hash = $2 AND finished_at_us IS NULL)
ORDER BY key DESC;

-- name: events
SELECT position, segment, scope, name, key, occurrence, kind, status, args_hash, started_at_us, signal, at_us, token,
       superseded, payload, blob, n, type
FROM holdfast.events WHERE run = $1 AND n > $2 ORDER BY n LIMIT greatest($3, 0);

-- name: entries
SELECT position, segment, scope, name, key, occurrence, kind, status, args_hash, started_at_us, signal, at_us, token,
       superseded, payload, blob
FROM holdfast.events WHERE run = $1 AND position IS NOT NULL ORDER BY n;

-- name: entries_without_payloads
SELECT position, segment, scope, name, key, occurrence, kind, status, args_hash, started_at_us, signal, at_us, token,
       superseded, ''::bytea, NULL::bigint
FROM holdfast.events WHERE run = $1 AND position IS NOT NULL ORDER BY n;

-- name: once
SELECT position, segment, scope, name, key, occurrence, kind, status, args_hash, started_at_us, signal, at_us, token,
       superseded, payload, blob
FROM holdfast.events
WHERE run = $1 AND key = $2 AND kind = 'once' AND NOT superseded AND status IN ('ok', 'failed');

-- name: count_once
SELECT count(*) FROM holdfast.events
WHERE run = $1 AND kind = 'once' AND NOT superseded AND status IN ('ok', 'failed');

-- name: checkpoints
SELECT n, segment, name, at_us, size_bytes, now_us, state, encoding, sha256 FROM holdfast.checkpoints WHERE run = $1 ORDER BY n;

-- name: checkpoint
SELECT n, segment, name, at_us, size_bytes, now_us, state, encoding, sha256 FROM holdfast.checkpoints WHERE run = $1 AND n = $2;

-- name: checkpoint_numbers
SELECT n FROM holdfast.checkpoints WHERE run = $1 ORDER BY n DESC;

-- name: asks
SELECT key, runs.token, coalesce(live.position, runs.position), state, asked, inbox_no, coalesce(throttled, false),
       coalesce(kill = runs.token, false)
FROM holdfast.runs LEFT JOIN holdfast.live ON live.run = key LEFT JOIN holdfast.wishes ON wishes.run = key
WHERE claimed_by = $1
ORDER BY key;

-- name: inbox_no
SELECT inbox_no FROM holdfast.runs WHERE key = $1;

-- name: inbox
SELECT n, name, payload, blob, at_us FROM holdfast.signals WHERE run = $1 AND consumed IS NULL ORDER BY n;

-- name: queues
SELECT name, max(at_most), sum(queued)::bigint, sum(running)::bigint FROM (
    SELECT name, at_most, 0 AS queued, 0 AS running FROM holdfast.queues
    UNION ALL
    SELECT queue, NULL, count(*), 0 FROM holdfast.runs WHERE state = 'queued' GROUP BY queue
    UNION ALL
    SELECT queue, NULL, 0, count(*) FROM holdfast.runs WHERE state = 'running' GROUP BY queue
) AS counted GROUP BY name ORDER BY name;

-- name: runs_by_key
SELECT run_rows.* FROM holdfast.run_rows JOIN jsonb_array_elements_text($1::jsonb) AS wanted ON run_rows.key = wanted.value::bigint;
