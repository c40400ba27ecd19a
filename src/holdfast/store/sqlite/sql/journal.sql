-- name: checkpoint_below
SELECT n, segment, name, at_us, size_bytes, now_us, state, encoding, sha256, event_no, corrupt FROM checkpoints
WHERE run = ? AND n < ? ORDER BY n DESC LIMIT 1;

-- name: mark_corrupt
UPDATE checkpoints SET corrupt = 1 WHERE run = ? AND n = ?;

-- name: most_kept
SELECT max(keep) FROM checkpoints WHERE run = ?;

-- name: tail
SELECT position, segment, scope, name, key, occurrence, kind, status, args_hash, started_at_us, signal, at_us, token,
       superseded, payload, blob
FROM events
WHERE run = ?1 AND n > ?2 AND position IS NOT NULL AND superseded = 0 AND (segment >= ?3 OR segment = -1)
  AND kind <> 'once'
ORDER BY n;

-- name: turns
SELECT turns FROM checkpoint_turns WHERE run = ? AND n = ?;

-- name: setup
SELECT position, segment, scope, name, key, occurrence, kind, status, args_hash, started_at_us, signal, at_us, token,
       superseded, payload, blob
FROM events INDEXED BY events_setup
WHERE run = ?1 AND segment = -1 AND kind <> 'once' AND n <= ?2 AND position IS NOT NULL AND superseded = 0
ORDER BY n;

-- name: resolutions
SELECT resolution FROM resolutions WHERE run = ? ORDER BY n;
