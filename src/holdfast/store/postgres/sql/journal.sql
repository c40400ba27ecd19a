-- name: checkpoint_below
SELECT n, segment, name, at_us, size_bytes, now_us, state, encoding, sha256, event_no, corrupt FROM holdfast.checkpoints
WHERE run = $1 AND n < $2 ORDER BY n DESC LIMIT 1;

-- name: mark_corrupt
UPDATE holdfast.checkpoints SET corrupt = true WHERE run = $1 AND n = $2;

-- name: most_kept
SELECT max(keep) FROM holdfast.checkpoints WHERE run = $1;

-- name: tail
SELECT position, segment, scope, name, key, occurrence, kind, status, args_hash, started_at_us, signal, at_us, token,
       superseded, payload, blob
FROM holdfast.events
WHERE run = $1 AND n > $2 AND position IS NOT NULL AND NOT superseded AND (segment >= $3 OR segment = -1)
  AND kind <> 'once'
ORDER BY n;

-- name: turns
SELECT turns FROM holdfast.checkpoint_turns WHERE run = $1 AND n = $2;

-- name: setup
SELECT position, segment, scope, name, key, occurrence, kind, status, args_hash, started_at_us, signal, at_us, token,
       superseded, payload, blob
FROM holdfast.events
WHERE run = $1 AND segment = -1 AND kind <> 'once' AND n <= $2 AND position IS NOT NULL AND NOT superseded
ORDER BY n;

-- name: resolutions
SELECT resolution FROM holdfast.resolutions WHERE run = $1 ORDER BY n;
