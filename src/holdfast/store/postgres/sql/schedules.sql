-- Schedules and their fires. The conditions of the partial indexes are repeated word for word, or they are not used.

-- name: due
SELECT name FROM holdfast.schedules WHERE wake_us IS NOT NULL AND NOT paused AND wake_us <= $1
ORDER BY wake_us LIMIT greatest($2, 0);

-- name: next_wake
SELECT min(wake_us) FROM holdfast.schedules WHERE wake_us IS NOT NULL AND NOT paused;

-- name: schedule
SELECT name, agent, version, input, cron, zone, every_us, anchor_us, after, catch_up, catch_up_most, window_us, overlap,
       jitter_us, queue, priority, deadline_us, created_at_us, next_due_us, wake_us, last_due_us, paused, held, fires,
       missed, skipped
FROM holdfast.schedules WHERE name = $1;

-- name: schedules
SELECT name, agent, version, input, cron, zone, every_us, anchor_us, after, catch_up, catch_up_most, window_us, overlap,
       jitter_us, queue, priority, deadline_us, created_at_us, next_due_us, wake_us, last_due_us, paused, held, fires,
       missed, skipped
FROM holdfast.schedules ORDER BY name;

-- name: count_schedules
SELECT count(*) FROM holdfast.schedules;

-- name: insert_schedule
INSERT INTO holdfast.schedules (name, agent, version, input, cron, zone, every_us, anchor_us, after, catch_up, catch_up_most,
    window_us, overlap, jitter_us, queue, priority, deadline_us, created_at_us, next_due_us, wake_us, last_due_us,
    paused, held, fires, missed, skipped)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26);

-- name: update_schedule
UPDATE holdfast.schedules SET agent = $2, version = $3, input = $4, cron = $5, zone = $6, every_us = $7, anchor_us = $8,
    after = $9, catch_up = $10, catch_up_most = $11, window_us = $12, overlap = $13, jitter_us = $14, queue = $15,
    priority = $16, deadline_us = $17, created_at_us = $18, next_due_us = $19, wake_us = $20, last_due_us = $21,
    paused = $22, held = $23, fires = $24, missed = $25, skipped = $26
WHERE name = $1;

-- name: move_schedule
UPDATE holdfast.schedules SET next_due_us = $2, wake_us = $3, last_due_us = $4, paused = $5, held = $6, fires = $7, missed = $8,
    skipped = $9
WHERE name = $1;

-- name: delete_schedule
DELETE FROM holdfast.schedules WHERE name = $1;

-- name: waiting
SELECT schedule, n, mark, due_us, cause, status, run, at_us, why, source, held
FROM holdfast.schedule_fires WHERE schedule = $1 AND status = 'queued' ORDER BY n;

-- name: active
SELECT run FROM holdfast.schedule_fires WHERE schedule = $1 AND active ORDER BY n;

-- name: fires
SELECT schedule, n, mark, due_us, cause, status, run, at_us, why, source, held
FROM holdfast.schedule_fires WHERE schedule = $1 ORDER BY n DESC LIMIT greatest($2, 0);

-- name: fire_of_run
SELECT schedule, n, mark, due_us, cause, status, run, at_us, why, source, held
FROM holdfast.schedule_fires WHERE run_key = (SELECT key FROM holdfast.runs WHERE id = $1);

-- name: has_mark
SELECT 1 FROM holdfast.schedule_fires WHERE schedule = $1 AND mark = $2;

-- name: insert_fire
INSERT INTO holdfast.schedule_fires (schedule, n, mark, due_us, cause, status, run, run_key, active, at_us, why, source, held)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13);

-- name: move_fire
UPDATE holdfast.schedule_fires SET due_us = $4, cause = $5, status = $6, run = $7, run_key = $8, active = $9, at_us = $10,
    why = $11, source = $12, held = $13
WHERE schedule = $1 AND n = $2 AND mark = $3;

-- name: forget_fires
DELETE FROM holdfast.schedule_fires WHERE schedule = $1 AND n <= $2 AND status <> 'queued' AND NOT active;

-- name: run_ended
UPDATE holdfast.schedule_fires SET active = false WHERE run_key = $1 AND active = true RETURNING schedule;

-- name: run_taken_up
UPDATE holdfast.schedule_fires SET active = true WHERE run_key = $1 AND NOT active;

-- name: wake_the_waiting
UPDATE holdfast.schedules SET wake_us = least(coalesce(wake_us, $2), $2)
WHERE name = $1 AND EXISTS (
    SELECT 1 FROM holdfast.schedule_fires WHERE schedule = $1 AND status = 'queued');

-- name: wake
UPDATE holdfast.schedules SET wake_us = least(coalesce(wake_us, $2), $2) WHERE name = $1;

-- name: coming_after
SELECT name FROM holdfast.schedules WHERE after IS NOT NULL AND after IN ($1, $2);

-- name: count_fire
UPDATE holdfast.schedules SET fires = fires + 1 WHERE name = $1 RETURNING fires;

-- name: put_needs
UPDATE holdfast.schedules SET needs = $1 WHERE name = $2;

-- name: needs
SELECT needs FROM holdfast.schedules WHERE name = $1;

-- name: put_lane
INSERT INTO holdfast.schedule_lanes (schedule, key, at_most) VALUES ($1, $2, $3)
ON CONFLICT (schedule) DO UPDATE SET key = $2, at_most = $3;

-- name: drop_lane
DELETE FROM holdfast.schedule_lanes WHERE schedule = $1;

-- name: lane
SELECT key, at_most FROM holdfast.schedule_lanes WHERE schedule = $1;
