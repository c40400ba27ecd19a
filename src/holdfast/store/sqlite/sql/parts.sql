-- The parts used alone. A checkpoint's columns are in the order of `stored.py`.

-- name: state_of
SELECT version, at_us, state, encoding, sha256 FROM states WHERE owner = ?;

-- name: save_state_of
INSERT INTO states (owner, version, at_us, state, encoding, sha256) VALUES (?1, 1, ?2, ?3, ?4, ?5)
ON CONFLICT (owner) DO UPDATE SET version = version + 1, at_us = ?2, state = ?3, encoding = ?4, sha256 = ?5
RETURNING version;

-- name: delete_state_of
UPDATE states SET at_us = ?2, state = NULL, encoding = NULL, sha256 = NULL
WHERE owner = ?1 AND state IS NOT NULL;

-- name: count_checkpoint_of
INSERT INTO owners (owner, checkpoint_n) VALUES (?, 1)
ON CONFLICT (owner) DO UPDATE SET checkpoint_n = checkpoint_n + 1 RETURNING checkpoint_n;

-- name: insert_checkpoint_of
INSERT INTO owned_checkpoints (owner, n, name, at_us, state, sha256, size_bytes, encoding) VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: prune_checkpoints_of
DELETE FROM owned_checkpoints WHERE owner = ?1 AND name IS NULL AND n NOT IN (
    SELECT n FROM owned_checkpoints WHERE owner = ?1 AND name IS NULL ORDER BY n DESC LIMIT ?2);

-- name: checkpoints_of
SELECT n, 0, name, at_us, size_bytes, 0, state, encoding, sha256 FROM owned_checkpoints WHERE owner = ? ORDER BY n;

-- name: checkpoint_of
SELECT n, 0, name, at_us, size_bytes, 0, state, encoding, sha256 FROM owned_checkpoints WHERE owner = ? AND n = ?;

-- name: checkpoint_numbers_of
SELECT n FROM owned_checkpoints WHERE owner = ?1 AND (?2 IS NULL OR name = ?2) ORDER BY n DESC;

-- name: delete_checkpoint_of
DELETE FROM owned_checkpoints WHERE owner = ? AND n = ?;

-- name: progress_of
SELECT current, total, description, phase, started_at_us, updated_at_us, version FROM owned_progress WHERE owner = ?;

-- name: save_progress_of
INSERT INTO owned_progress (owner, version, current, total, description, phase, started_at_us, updated_at_us)
VALUES (?1, 1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (owner) DO UPDATE SET version = version + 1, current = ?2, total = ?3, description = ?4, phase = ?5,
    started_at_us = ?6, updated_at_us = ?7;

-- name: delete_progress_of
DELETE FROM owned_progress WHERE owner = ?;
