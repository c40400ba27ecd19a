-- name: register
INSERT INTO workers (name, host, pid, capacity, serves, apart, labels, started_at_us, lock_path, boot_id, lease_until_us)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
RETURNING key;

-- name: renew
UPDATE workers SET lease_until_us = ?, sample = coalesce(?, sample), fell_with = NULL
WHERE key = ? AND boot_id = ? AND retired = 0;

-- name: retire
UPDATE workers SET retired = 1, counted = ? WHERE key = ? AND retired = 0;

-- name: mark_draining
UPDATE workers SET draining = 1 WHERE key = ?;

-- name: is_draining
SELECT draining FROM workers WHERE key = ?;

-- name: labels
SELECT labels FROM workers WHERE key = ?;

-- name: may_claim
SELECT 1 FROM workers WHERE key = ? AND retired = 0 AND draining = 0;

-- name: locks
SELECT key, lock_path FROM workers WHERE lock_path IS NOT NULL AND retired = 0 AND boot_id = ?;

-- name: leases
SELECT key, lease_until_us, boot_id, retired, counted, fell_with FROM workers;

-- name: forget_claims
UPDATE runs SET claimed_by = NULL WHERE claimed_by = ? AND state <> 'running';

-- name: forget
DELETE FROM workers WHERE key = ?1 AND NOT EXISTS (SELECT 1 FROM runs WHERE worker = ?1) RETURNING lock_path;

-- name: list
SELECT key, name, host, pid, capacity, serves, started_at_us, draining, sample,
       (SELECT count(*) FROM runs WHERE runs.worker = workers.key), apart, labels
FROM workers ORDER BY key;
