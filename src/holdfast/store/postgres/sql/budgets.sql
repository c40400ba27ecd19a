-- Budgets: see migrations/0010_budgets.sql.

-- name: any_limit
SELECT 1 FROM holdfast.budget_units WHERE hard IS NOT NULL LIMIT 1;

-- name: chain
-- Whom a run's calls are charged to: itself, its agent and project, then the same of its parent, and so on.
WITH RECURSIVE line (run, depth) AS (
    SELECT $1::bigint, 0 UNION ALL SELECT parent, depth + 1 FROM holdfast.children JOIN line ON child = line.run
)
SELECT key, scope, soft_percent, per_us, since_us, min(place) FROM (
    SELECT budgets.key, scope, soft_percent, per_us, since_us, depth * 3 AS place FROM line JOIN holdfast.budgets ON budgets.run = line.run
    UNION ALL
    SELECT budgets.key, scope, soft_percent, per_us, since_us, depth * 3 + 1 FROM line JOIN holdfast.runs ON runs.key = line.run
        JOIN holdfast.budgets ON budgets.scope = 'agent:' || runs.agent
    UNION ALL
    SELECT budgets.key, scope, soft_percent, per_us, since_us, depth * 3 + 2 FROM line JOIN holdfast.tags ON tags.run = line.run AND tags.name = 'project'
        JOIN holdfast.budgets ON budgets.scope = 'project:' || tags.value
) AS charged GROUP BY key, scope, soft_percent, per_us, since_us ORDER BY min(place);

-- name: limited
SELECT DISTINCT unit FROM holdfast.budget_units
WHERE hard IS NOT NULL AND budget IN (SELECT value::bigint FROM jsonb_array_elements_text($1::jsonb)) ORDER BY unit;

-- name: accounts
SELECT unit, hard, used, reserved FROM holdfast.budget_units WHERE budget = $1 ORDER BY unit;

-- name: account
SELECT unit, hard, used, reserved FROM holdfast.budget_units WHERE budget = $1 AND unit = $2;

-- name: save
INSERT INTO holdfast.budget_units (budget, unit, hard, used, reserved) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (budget, unit) DO UPDATE SET hard = $3, used = $4, reserved = $5;

-- name: begin_window
UPDATE holdfast.budgets SET since_us = $2 WHERE key = $1;

-- name: begin_units
UPDATE holdfast.budget_units SET used = 0 WHERE budget = $1;

-- name: add
INSERT INTO holdfast.budgets (scope, run, soft_percent, since_us) VALUES ($1, $2, $3, $4) RETURNING key;

-- name: by_scope
SELECT key, scope, soft_percent, per_us, since_us FROM holdfast.budgets WHERE scope = $1;

-- name: by_key
SELECT key, scope, soft_percent, per_us, since_us FROM holdfast.budgets WHERE key = $1;

-- name: all
SELECT key, scope, soft_percent, per_us, since_us FROM holdfast.budgets
WHERE run IS NULL OR ($1::boolean AND EXISTS (SELECT 1 FROM holdfast.budget_units WHERE budget = key AND hard IS NOT NULL))
ORDER BY run IS NOT NULL, scope LIMIT greatest($2, 0);

-- name: change
UPDATE holdfast.budgets SET soft_percent = $2, per_us = $3, since_us = $4 WHERE key = $1;

-- name: forget
DELETE FROM holdfast.budgets WHERE key = $1;

-- name: runs_under
SELECT 1 FROM holdfast.live WHERE run = $1 AND token = $2;

-- name: run_named
SELECT id FROM holdfast.runs WHERE key = $1;

-- name: key_of
SELECT key FROM holdfast.runs WHERE id = $1;

-- name: of_call
SELECT budget, unit, amount, token FROM holdfast.reserved WHERE run = $1 AND call = $2;

-- name: hold
INSERT INTO holdfast.reserved (run, call, budget, unit, amount, token) VALUES ($1, $2, $3, $4, $5, $6);

-- name: let_go
DELETE FROM holdfast.reserved WHERE run = $1 AND call = $2;

-- name: cut_off
-- The open step of an attempt that has reserved working time, as the newest event that told of one has it, if none of
-- its name ended since. It is looked for among the newest 100 events.
SELECT events.payload FROM holdfast.live JOIN holdfast.events ON events.run = live.run
WHERE live.run = $1 AND live.step IS NOT NULL AND events.n > live.event_no - 100 AND events.type = 'step.started'
    AND EXISTS (SELECT 1 FROM holdfast.reserved
                WHERE reserved.run = $1 AND reserved.token = live.token AND unit = 'working_s')
    AND NOT EXISTS (
        SELECT 1 FROM holdfast.events AS later
        WHERE later.run = $1 AND later.n > events.n AND later.position IS NOT NULL AND later.name = live.step)
ORDER BY events.n DESC LIMIT 1;

-- name: step_of
SELECT step FROM holdfast.live WHERE run = $1;

-- name: last_figures
SELECT sample FROM holdfast.workers WHERE key = $1;

-- name: lost
SELECT DISTINCT run, call FROM holdfast.reserved
WHERE NOT EXISTS (SELECT 1 FROM holdfast.live WHERE live.run = reserved.run AND live.token = reserved.token) LIMIT greatest($1, 0);

-- name: wait
INSERT INTO holdfast.budget_waits (run, budget, unit, asked) VALUES ($1, $2, $3, $4)
ON CONFLICT (run, budget) DO UPDATE SET unit = excluded.unit, asked = excluded.asked
WHERE budget_waits.unit IS DISTINCT FROM excluded.unit OR budget_waits.asked > excluded.asked;

-- name: wait_no_more
DELETE FROM holdfast.budget_waits WHERE run = $1;

-- name: waits
SELECT 1 FROM holdfast.budget_waits WHERE run = $1;

-- name: waiting
SELECT run FROM holdfast.budget_waits WHERE budget = $1;

-- name: may_fit
SELECT run, unit, asked, hard - used - reserved FROM holdfast.budget_waits JOIN holdfast.budget_units USING (budget, unit)
WHERE budget = $1 AND asked <= hard - used - reserved ORDER BY run LIMIT $2;

-- name: count_waiting
SELECT count(*) FROM holdfast.budget_waits JOIN holdfast.runs ON runs.key = run WHERE budget = $1 AND state = 'waiting';

-- name: count_event
UPDATE holdfast.live SET event_no = event_no + 1 WHERE run = $1 RETURNING event_no;

-- name: put_of_schedule
INSERT INTO holdfast.schedule_budgets (schedule, limits, soft_percent) VALUES ($1, $2, $3)
ON CONFLICT (schedule) DO UPDATE SET limits = $2, soft_percent = $3;

-- name: drop_of_schedule
DELETE FROM holdfast.schedule_budgets WHERE schedule = $1;

-- name: of_schedule
SELECT limits, soft_percent FROM holdfast.schedule_budgets WHERE schedule = $1;
