-- Shared rates, and the turns that were reserved for unloaded runs.

-- name: rate
SELECT units, period_us, burst, pinned, ahead_us, held_back_us, boot_id, boot_us, wall_us FROM rates WHERE name = ?;

-- name: rates
SELECT name FROM rates ORDER BY name;

-- name: save
INSERT INTO rates (name, units, period_us, burst, pinned, ahead_us, held_back_us, boot_id, boot_us, wall_us)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
ON CONFLICT (name) DO UPDATE SET units = ?2, period_us = ?3, burst = ?4, pinned = ?5, ahead_us = ?6, held_back_us = ?7,
    boot_id = ?8, boot_us = ?9, wall_us = ?10;

-- name: adjust
UPDATE rates SET ahead_us = ?2 WHERE name = ?1;

-- name: forget
DELETE FROM rates WHERE name = ?;

-- name: runs_under
SELECT 1 FROM live WHERE run = ? AND token = ?;

-- name: turn
SELECT rate, boot_id, at_us FROM turns WHERE run = ? AND call = ?;

-- name: keep_turn
INSERT INTO turns (run, call, rate, boot_id, at_us) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (run, call) DO UPDATE SET rate = ?3, boot_id = ?4, at_us = ?5;

-- name: drop_turn
DELETE FROM turns WHERE run = ? AND call = ?;

-- name: drop_past_turns
DELETE FROM turns WHERE run = ?1 AND (at_us < ?2 OR boot_id <> ?3);
