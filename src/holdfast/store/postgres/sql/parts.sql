-- The parts used alone. A checkpoint's columns are in the order of `stored.py`.

-- name: state_of
SELECT version, at_us, state, encoding, sha256 FROM holdfast.states WHERE owner = $1;

-- name: save_state_of
INSERT INTO holdfast.states (owner, version, at_us, state, encoding, sha256) VALUES ($1, 1, $2, $3, $4, $5)
ON CONFLICT (owner) DO UPDATE SET version = states.version + 1, at_us = $2, state = $3, encoding = $4, sha256 = $5
RETURNING version;

-- name: delete_state_of
UPDATE holdfast.states SET at_us = $2, state = NULL, encoding = NULL, sha256 = NULL
WHERE owner = $1 AND state IS NOT NULL;

-- name: count_checkpoint_of
INSERT INTO holdfast.owners (owner, checkpoint_n) VALUES ($1, 1)
ON CONFLICT (owner) DO UPDATE SET checkpoint_n = owners.checkpoint_n + 1 RETURNING checkpoint_n;

-- name: insert_checkpoint_of
INSERT INTO holdfast.owned_checkpoints (owner, n, name, at_us, state, sha256, size_bytes, encoding) VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: prune_checkpoints_of
DELETE FROM holdfast.owned_checkpoints WHERE owner = $1 AND name IS NULL AND n NOT IN (
    SELECT n FROM holdfast.owned_checkpoints WHERE owner = $1 AND name IS NULL ORDER BY n DESC LIMIT greatest($2, 0));

-- name: checkpoints_of
SELECT n, 0::bigint, name, at_us, size_bytes, 0::bigint, state, encoding, sha256 FROM holdfast.owned_checkpoints WHERE owner = $1 ORDER BY n;

-- name: checkpoint_of
SELECT n, 0::bigint, name, at_us, size_bytes, 0::bigint, state, encoding, sha256 FROM holdfast.owned_checkpoints WHERE owner = $1 AND n = $2;

-- name: checkpoint_numbers_of
SELECT n FROM holdfast.owned_checkpoints WHERE owner = $1 AND ($2::text IS NULL OR name = $2::text) ORDER BY n DESC;

-- name: delete_checkpoint_of
DELETE FROM holdfast.owned_checkpoints WHERE owner = $1 AND n = $2;

-- name: progress_of
SELECT current, total, description, phase, started_at_us, updated_at_us, version FROM holdfast.owned_progress WHERE owner = $1;

-- name: save_progress_of
INSERT INTO holdfast.owned_progress (owner, version, current, total, description, phase, started_at_us, updated_at_us)
VALUES ($1, 1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (owner) DO UPDATE SET version = owned_progress.version + 1, current = $2, total = $3, description = $4, phase = $5,
    started_at_us = $6, updated_at_us = $7;

-- name: delete_progress_of
DELETE FROM holdfast.owned_progress WHERE owner = $1;
