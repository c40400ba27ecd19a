-- What runs ask of the worker that executes them, and what workers have.
--
--   runs.needs, schedules.needs, workers.labels   sorted, with commas between: 'eu,gpu'; '' asks for nothing.
--
-- Claims look at one kind of machine after the other: what waits for another kind costs nothing.

ALTER TABLE runs ADD COLUMN needs TEXT NOT NULL DEFAULT '';
ALTER TABLE schedules ADD COLUMN needs TEXT NOT NULL DEFAULT '';
ALTER TABLE workers ADD COLUMN labels TEXT NOT NULL DEFAULT '';

DROP INDEX runs_due;
CREATE INDEX runs_due ON runs (agent, version, needs, queue, priority, available_at_us)
    WHERE claimable = 1 AND available_at_us IS NOT NULL AND state IN ('queued', 'waiting');
CREATE INDEX runs_needing ON runs (needs) WHERE needs <> '' AND finished_at_us IS NULL;

DROP VIEW run_rows;
CREATE VIEW run_rows AS
SELECT runs.key, id, agent, version, queue, priority, state, iif(live.run IS NULL, runs.reason, live.reason) AS reason,
       created_at_us, runs.token, coalesce(live.position, runs.position) AS position,
       coalesce(live.event_no, runs.event_no) AS event_no, coalesce(live.steps, runs.steps) AS steps,
       iif(live.run IS NULL, runs.step, live.step) AS step,
       coalesce(live.checkpoint_n, runs.checkpoint_n) AS checkpoint_n, worker, available_at_us, attempts, failures, crashes, crashes_alone, suspect,
       claimed_position, asked, wait_name, inbox_no, deadline_at_us, started_at_us, finished_at_us, failure, mismatch, needs
FROM runs JOIN run_payloads ON run_payloads.run = runs.key LEFT JOIN live ON live.run = runs.key;

DROP VIEW whole_runs;
CREATE VIEW whole_runs AS
SELECT runs.key, id, agent, version, queue, priority, state, iif(live.run IS NULL, runs.reason, live.reason) AS reason,
       created_at_us, runs.token, coalesce(live.position, runs.position) AS position,
       coalesce(live.event_no, runs.event_no) AS event_no, coalesce(live.steps, runs.steps) AS steps,
       iif(live.run IS NULL, runs.step, live.step) AS step,
       coalesce(live.checkpoint_n, runs.checkpoint_n) AS checkpoint_n, worker, available_at_us, attempts, failures, crashes, crashes_alone, suspect,
       claimed_position, asked, wait_name, inbox_no, deadline_at_us, started_at_us, finished_at_us, failure, mismatch, needs,
       input, input_blob, result, result_blob
FROM runs JOIN run_payloads ON run_payloads.run = runs.key LEFT JOIN live ON live.run = runs.key;
