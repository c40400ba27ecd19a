-- Samples and wishes: see migrations/0011_samples.sql.

-- name: save_sample
-- The fence: nothing is written for an attempt that is over.
INSERT INTO samples (run, token, level, sample)
SELECT ?1, ?2, ?3, ?4 FROM live WHERE run = ?1 AND token = ?2
ON CONFLICT (run) DO UPDATE SET token = excluded.token, level = excluded.level, sample = excluded.sample
RETURNING run;

-- name: save_history
INSERT INTO histories (run, sha256, size_bytes, encoding, body) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (run) DO UPDATE SET sha256 = ?2, size_bytes = ?3, encoding = ?4, body = ?5;

-- name: token_of
SELECT token FROM live WHERE run = ?;

-- name: history
SELECT sha256, size_bytes, encoding, body FROM histories WHERE run = ?;

-- name: glimpses
-- The newest `step.started` is looked for among the newest 100 events: further back it is of a step that is over.
SELECT runs.key, progress.current, progress.total, progress.description, progress.phase, progress.started_at_us,
       progress.updated_at_us, samples.token, samples.level, samples.sample, coalesce(wishes.throttled, 0),
       (SELECT at_us FROM events WHERE events.run = live.run AND events.n = live.event_no), live.step,
       iif(live.step IS NULL, NULL, (
           SELECT payload FROM events
           WHERE events.run = live.run AND events.n > live.event_no - 100 AND events.type = 'step.started'
           ORDER BY events.n DESC LIMIT 1))
FROM json_each(?) AS wanted JOIN runs ON runs.key = wanted.value
    LEFT JOIN live ON live.run = runs.key
    LEFT JOIN progress ON progress.run = runs.key
    LEFT JOIN samples ON samples.run = runs.key AND samples.token = live.token
    LEFT JOIN wishes ON wishes.run = runs.key;

-- name: budgets
SELECT budgets.run, scope, soft_percent, unit, hard, used, reserved,
       (SELECT count(*) FROM budget_waits JOIN runs ON runs.key = budget_waits.run
        WHERE budget_waits.budget = budgets.key AND state = 'waiting')
FROM json_each(?) AS wanted JOIN budgets ON budgets.run = wanted.value
    LEFT JOIN budget_units ON budget_units.budget = budgets.key
ORDER BY budgets.run, unit;

-- name: throttle
INSERT INTO wishes (run, throttled) VALUES (?1, ?2) ON CONFLICT (run) DO UPDATE SET throttled = ?2;

-- name: kill
INSERT INTO wishes (run, kill) VALUES (?1, ?2) ON CONFLICT (run) DO UPDATE SET kill = ?2;
