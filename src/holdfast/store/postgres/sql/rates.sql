-- Shared rates, and the turns that were reserved for unloaded runs.

-- name: rate
SELECT units, period_us, burst, pinned, ahead_us, held_back_us, boot_id, boot_us, wall_us FROM holdfast.rates WHERE name = $1;

-- name: rates
SELECT name FROM holdfast.rates ORDER BY name;

-- name: save
INSERT INTO holdfast.rates (name, units, period_us, burst, pinned, ahead_us, held_back_us, boot_id, boot_us, wall_us)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (name) DO UPDATE SET units = $2, period_us = $3, burst = $4, pinned = $5, ahead_us = $6, held_back_us = $7,
    boot_id = $8, boot_us = $9, wall_us = $10;

-- name: adjust
UPDATE holdfast.rates SET ahead_us = $2 WHERE name = $1;

-- name: forget
DELETE FROM holdfast.rates WHERE name = $1;

-- name: runs_under
SELECT 1 FROM holdfast.live WHERE run = $1 AND token = $2;

-- name: turn
SELECT rate, boot_id, at_us FROM holdfast.turns WHERE run = $1 AND call = $2;

-- name: keep_turn
INSERT INTO holdfast.turns (run, call, rate, boot_id, at_us) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (run, call) DO UPDATE SET rate = $3, boot_id = $4, at_us = $5;

-- name: drop_turn
DELETE FROM holdfast.turns WHERE run = $1 AND call = $2;

-- name: drop_past_turns
DELETE FROM holdfast.turns WHERE run = $1 AND (at_us < $2 OR boot_id <> $3);
