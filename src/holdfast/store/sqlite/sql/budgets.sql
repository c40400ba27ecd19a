-- Budgets: see migrations/0010_budgets.sql.

-- name: any_limit
SELECT 1 FROM budget_units WHERE hard IS NOT NULL LIMIT 1;

-- name: chain
-- Whom a run's calls are charged to: itself, its agent and project, then the same of its parent, and so on.
WITH RECURSIVE line (run, depth) AS (
    SELECT ?1, 0 UNION ALL SELECT parent, depth + 1 FROM children JOIN line ON child = line.run
)
SELECT key, scope, soft_percent, per_us, since_us, min(place) FROM (
    SELECT budgets.*, depth * 3 AS place FROM line JOIN budgets ON budgets.run = line.run
    UNION ALL
    SELECT budgets.*, depth * 3 + 1 FROM line JOIN runs ON runs.key = line.run
        JOIN budgets ON budgets.scope = 'agent:' || runs.agent
    UNION ALL
    SELECT budgets.*, depth * 3 + 2 FROM line JOIN tags ON tags.run = line.run AND tags.name = 'project'
        JOIN budgets ON budgets.scope = 'project:' || tags.value
) GROUP BY key ORDER BY min(place);

-- name: limited
SELECT DISTINCT unit FROM budget_units
WHERE hard IS NOT NULL AND budget IN (SELECT value FROM json_each(?)) ORDER BY unit;

-- name: accounts
SELECT unit, hard, used, reserved FROM budget_units WHERE budget = ? ORDER BY unit;

-- name: account
SELECT unit, hard, used, reserved FROM budget_units WHERE budget = ? AND unit = ?;

-- name: save
INSERT INTO budget_units (budget, unit, hard, used, reserved) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (budget, unit) DO UPDATE SET hard = ?3, used = ?4, reserved = ?5;

-- name: begin_window
UPDATE budgets SET since_us = ?2 WHERE key = ?1;

-- name: begin_units
UPDATE budget_units SET used = 0 WHERE budget = ?;

-- name: add
INSERT INTO budgets (scope, run, soft_percent, since_us) VALUES (?, ?, ?, ?) RETURNING key;

-- name: by_scope
SELECT key, scope, soft_percent, per_us, since_us FROM budgets WHERE scope = ?;

-- name: by_key
SELECT key, scope, soft_percent, per_us, since_us FROM budgets WHERE key = ?;

-- name: all
SELECT key, scope, soft_percent, per_us, since_us FROM budgets
WHERE run IS NULL OR (?1 AND EXISTS (SELECT 1 FROM budget_units WHERE budget = key AND hard IS NOT NULL))
ORDER BY run IS NOT NULL, scope LIMIT ?2;

-- name: change
UPDATE budgets SET soft_percent = ?2, per_us = ?3, since_us = ?4 WHERE key = ?1;

-- name: forget
DELETE FROM budgets WHERE key = ?;

-- name: runs_under
SELECT 1 FROM live WHERE run = ? AND token = ?;

-- name: run_named
SELECT id FROM runs WHERE key = ?;

-- name: key_of
SELECT key FROM runs WHERE id = ?;

-- name: of_call
SELECT budget, unit, amount, token FROM reserved WHERE run = ? AND call = ?;

-- name: hold
INSERT INTO reserved (run, call, budget, unit, amount, token) VALUES (?, ?, ?, ?, ?, ?);

-- name: let_go
DELETE FROM reserved WHERE run = ? AND call = ?;

-- name: cut_off
-- The open step of an attempt that has reserved working time, as the newest event that told of one has it, if none of
-- its name ended since. It is looked for among the newest 100 events.
SELECT events.payload FROM live JOIN events ON events.run = live.run
WHERE live.run = ?1 AND live.step IS NOT NULL AND events.n > live.event_no - 100 AND events.type = 'step.started'
    AND EXISTS (SELECT 1 FROM reserved WHERE reserved.run = ?1 AND reserved.token = live.token AND unit = 'working_s')
    AND NOT EXISTS (
        SELECT 1 FROM events AS later
        WHERE later.run = ?1 AND later.n > events.n AND later.position IS NOT NULL AND later.name = live.step)
ORDER BY events.n DESC LIMIT 1;

-- name: step_of
SELECT step FROM live WHERE run = ?;

-- name: last_figures
SELECT sample FROM workers WHERE key = ?;

-- name: lost
SELECT DISTINCT run, call FROM reserved
WHERE NOT EXISTS (SELECT 1 FROM live WHERE live.run = reserved.run AND live.token = reserved.token) LIMIT ?;

-- name: wait
INSERT INTO budget_waits (run, budget, unit, asked) VALUES (?, ?, ?, ?)
ON CONFLICT (run, budget) DO UPDATE SET unit = excluded.unit, asked = excluded.asked
WHERE unit IS NOT excluded.unit OR asked > excluded.asked;

-- name: wait_no_more
DELETE FROM budget_waits WHERE run = ?;

-- name: waits
SELECT 1 FROM budget_waits WHERE run = ?;

-- name: waiting
SELECT run FROM budget_waits WHERE budget = ?;

-- name: may_fit
SELECT run, unit, asked, hard - used - reserved FROM budget_waits JOIN budget_units USING (budget, unit)
WHERE budget = ? AND asked <= hard - used - reserved ORDER BY run LIMIT ?;

-- name: count_waiting
SELECT count(*) FROM budget_waits JOIN runs ON runs.key = run WHERE budget = ? AND state = 'waiting';

-- name: count_event
UPDATE live SET event_no = event_no + 1 WHERE run = ? RETURNING event_no;

-- name: put_of_schedule
INSERT INTO schedule_budgets (schedule, limits, soft_percent) VALUES (?1, ?2, ?3)
ON CONFLICT (schedule) DO UPDATE SET limits = ?2, soft_percent = ?3;

-- name: drop_of_schedule
DELETE FROM schedule_budgets WHERE schedule = ?;

-- name: of_schedule
SELECT limits, soft_percent FROM schedule_budgets WHERE schedule = ?;
