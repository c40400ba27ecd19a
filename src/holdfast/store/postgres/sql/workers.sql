-- name: register
INSERT INTO holdfast.workers (name, host, pid, capacity, serves, apart, labels, started_at_us, lock_path, boot_id,
                              lease_until_us)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
RETURNING key;

-- name: renew
UPDATE holdfast.workers SET lease_until_us = $1, sample = coalesce($2, sample), fell_with = NULL
WHERE key = $3 AND boot_id = $4 AND NOT retired;

-- name: retire
UPDATE holdfast.workers SET retired = true, counted = $1 WHERE key = $2 AND NOT retired;

-- name: mark_draining
UPDATE holdfast.workers SET draining = true WHERE key = $1;

-- name: is_draining
SELECT draining FROM holdfast.workers WHERE key = $1;

-- name: labels
SELECT labels FROM holdfast.workers WHERE key = $1;

-- name: may_claim
SELECT 1 FROM holdfast.workers WHERE key = $1 AND NOT retired AND NOT draining;

-- name: locks
SELECT key, lock_path FROM holdfast.workers WHERE lock_path IS NOT NULL AND NOT retired AND boot_id = $1;

-- name: leases
SELECT key, lease_until_us, boot_id, retired, counted, fell_with FROM holdfast.workers;

-- name: forget_claims
UPDATE holdfast.runs SET claimed_by = NULL WHERE claimed_by = $1 AND state <> 'running';

-- name: forget
DELETE FROM holdfast.workers WHERE key = $1 AND NOT EXISTS (SELECT 1 FROM holdfast.runs WHERE worker = $1) RETURNING lock_path;

-- name: list
SELECT key, name, host, pid, capacity, serves, started_at_us, draining, sample,
       (SELECT count(*) FROM holdfast.runs WHERE runs.worker = workers.key), apart, labels
FROM holdfast.workers ORDER BY key;
