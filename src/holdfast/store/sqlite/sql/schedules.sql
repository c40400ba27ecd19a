-- Schedules and their fires. The conditions of the partial indexes are repeated word for word, or they are not used.

-- name: due
SELECT name FROM schedules INDEXED BY schedules_wake WHERE wake_us IS NOT NULL AND paused = 0 AND wake_us <= ?
ORDER BY wake_us LIMIT ?;

-- name: next_wake
SELECT min(wake_us) FROM schedules INDEXED BY schedules_wake WHERE wake_us IS NOT NULL AND paused = 0;

-- name: schedule
SELECT name, agent, version, input, cron, zone, every_us, anchor_us, after, catch_up, catch_up_most, window_us, overlap,
       jitter_us, queue, priority, deadline_us, created_at_us, next_due_us, wake_us, last_due_us, paused, held, fires,
       missed, skipped
FROM schedules WHERE name = ?;

-- name: schedules
SELECT name, agent, version, input, cron, zone, every_us, anchor_us, after, catch_up, catch_up_most, window_us, overlap,
       jitter_us, queue, priority, deadline_us, created_at_us, next_due_us, wake_us, last_due_us, paused, held, fires,
       missed, skipped
FROM schedules ORDER BY name;

-- name: count_schedules
SELECT count(*) FROM schedules;

-- name: insert_schedule
INSERT INTO schedules (name, agent, version, input, cron, zone, every_us, anchor_us, after, catch_up, catch_up_most,
    window_us, overlap, jitter_us, queue, priority, deadline_us, created_at_us, next_due_us, wake_us, last_due_us,
    paused, held, fires, missed, skipped)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: update_schedule
UPDATE schedules SET agent = ?2, version = ?3, input = ?4, cron = ?5, zone = ?6, every_us = ?7, anchor_us = ?8,
    after = ?9, catch_up = ?10, catch_up_most = ?11, window_us = ?12, overlap = ?13, jitter_us = ?14, queue = ?15,
    priority = ?16, deadline_us = ?17, created_at_us = ?18, next_due_us = ?19, wake_us = ?20, last_due_us = ?21,
    paused = ?22, held = ?23, fires = ?24, missed = ?25, skipped = ?26
WHERE name = ?1;

-- name: move_schedule
UPDATE schedules SET next_due_us = ?2, wake_us = ?3, last_due_us = ?4, paused = ?5, held = ?6, fires = ?7, missed = ?8,
    skipped = ?9
WHERE name = ?1;

-- name: delete_schedule
DELETE FROM schedules WHERE name = ?;

-- name: waiting
SELECT schedule, n, mark, due_us, cause, status, run, at_us, why, source, held
FROM schedule_fires INDEXED BY schedule_fires_waiting WHERE schedule = ? AND status = 'queued' ORDER BY n;

-- name: active
SELECT run FROM schedule_fires INDEXED BY schedule_fires_active WHERE schedule = ? AND active = 1 ORDER BY n;

-- name: fires
SELECT schedule, n, mark, due_us, cause, status, run, at_us, why, source, held
FROM schedule_fires WHERE schedule = ? ORDER BY n DESC LIMIT ?;

-- name: fire_of_run
SELECT schedule, n, mark, due_us, cause, status, run, at_us, why, source, held
FROM schedule_fires INDEXED BY schedule_fires_run WHERE run_key = (SELECT key FROM runs WHERE id = ?);

-- name: has_mark
SELECT 1 FROM schedule_fires WHERE schedule = ? AND mark = ?;

-- name: insert_fire
INSERT INTO schedule_fires (schedule, n, mark, due_us, cause, status, run, run_key, active, at_us, why, source, held)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: move_fire
UPDATE schedule_fires SET due_us = ?4, cause = ?5, status = ?6, run = ?7, run_key = ?8, active = ?9, at_us = ?10,
    why = ?11, source = ?12, held = ?13
WHERE schedule = ?1 AND n = ?2 AND mark = ?3;

-- name: forget_fires
DELETE FROM schedule_fires WHERE schedule = ? AND n <= ? AND status <> 'queued' AND active = 0;

-- name: run_ended
UPDATE schedule_fires SET active = 0 WHERE run_key = ? AND active = 1 RETURNING schedule;

-- name: run_taken_up
UPDATE schedule_fires SET active = 1 WHERE run_key = ? AND active = 0;

-- name: wake_the_waiting
UPDATE schedules SET wake_us = min(coalesce(wake_us, ?2), ?2)
WHERE name = ?1 AND EXISTS (
    SELECT 1 FROM schedule_fires INDEXED BY schedule_fires_waiting WHERE schedule = ?1 AND status = 'queued');

-- name: wake
UPDATE schedules SET wake_us = min(coalesce(wake_us, ?2), ?2) WHERE name = ?1;

-- name: coming_after
SELECT name FROM schedules INDEXED BY schedules_after WHERE after IS NOT NULL AND after IN (?, ?);

-- name: count_fire
UPDATE schedules SET fires = fires + 1 WHERE name = ? RETURNING fires;

-- name: put_needs
UPDATE schedules SET needs = ? WHERE name = ?;

-- name: needs
SELECT needs FROM schedules WHERE name = ?;

-- name: put_lane
INSERT INTO schedule_lanes (schedule, key, at_most) VALUES (?1, ?2, ?3)
ON CONFLICT (schedule) DO UPDATE SET key = ?2, at_most = ?3;

-- name: drop_lane
DELETE FROM schedule_lanes WHERE schedule = ?;

-- name: lane
SELECT key, at_most FROM schedule_lanes WHERE schedule = ?;
