-- Samples and wishes: see migrations/0011_samples.sql.

-- name: save_sample
-- The fence: nothing is written for an attempt that is over.
INSERT INTO holdfast.samples (run, token, level, sample)
SELECT $1::bigint, $2::bigint, $3::text, $4::bytea FROM holdfast.live WHERE run = $1 AND token = $2
ON CONFLICT (run) DO UPDATE SET token = excluded.token, level = excluded.level, sample = excluded.sample
RETURNING run;

-- name: save_history
INSERT INTO holdfast.histories (run, sha256, size_bytes, encoding, body) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (run) DO UPDATE SET sha256 = $2, size_bytes = $3, encoding = $4, body = $5;

-- name: token_of
SELECT token FROM holdfast.live WHERE run = $1;

-- name: history
SELECT sha256, size_bytes, encoding, body FROM holdfast.histories WHERE run = $1;

-- name: glimpses
-- The newest `step.started` is looked for among the newest 100 events: further back it is of a step that is over.
SELECT runs.key, progress.current, progress.total, progress.description, progress.phase, progress.started_at_us,
       progress.updated_at_us, samples.token, samples.level, samples.sample, coalesce(wishes.throttled, false),
       (SELECT at_us FROM holdfast.events WHERE events.run = live.run AND events.n = live.event_no), live.step,
       CASE WHEN live.step IS NOT NULL THEN (
           SELECT payload FROM holdfast.events
           WHERE events.run = live.run AND events.n > live.event_no - 100 AND events.type = 'step.started'
           ORDER BY events.n DESC LIMIT 1) END
FROM jsonb_array_elements_text($1::jsonb) AS wanted JOIN holdfast.runs ON runs.key = wanted.value::bigint
    LEFT JOIN holdfast.live ON live.run = runs.key
    LEFT JOIN holdfast.progress ON progress.run = runs.key
    LEFT JOIN holdfast.samples ON samples.run = runs.key AND samples.token = live.token
    LEFT JOIN holdfast.wishes ON wishes.run = runs.key;

-- name: budgets
SELECT budgets.run, scope, soft_percent, unit, hard, used, reserved,
       (SELECT count(*) FROM holdfast.budget_waits JOIN holdfast.runs ON runs.key = budget_waits.run
        WHERE budget_waits.budget = budgets.key AND state = 'waiting')
FROM jsonb_array_elements_text($1::jsonb) AS wanted JOIN holdfast.budgets ON budgets.run = wanted.value::bigint
    LEFT JOIN holdfast.budget_units ON budget_units.budget = budgets.key
ORDER BY budgets.run, unit;

-- name: throttle
INSERT INTO holdfast.wishes (run, throttled) VALUES ($1, $2) ON CONFLICT (run) DO UPDATE SET throttled = $2;

-- name: kill
INSERT INTO holdfast.wishes (run, kill) VALUES ($1, $2) ON CONFLICT (run) DO UPDATE SET kill = $2;
