-- Schedules: what starts runs by itself, and what became of every fire.
--
--   schedules       a schedule, its policies, and where it stands. `wake_us` is when a controller must look at it.
--   schedule_fires  its newest fires, numbered without gaps. `mark` is the identity of a fire: what is met once is
--                   never met again. `run_key` is the run that it became; `active` while that run is unfinished.

CREATE TABLE schedules (
    name           TEXT    PRIMARY KEY,
    agent          TEXT    NOT NULL,
    version        TEXT    NOT NULL,
    input          BLOB    NOT NULL,
    cron           TEXT,
    zone           TEXT,
    every_us       INTEGER CHECK (every_us > 0),
    anchor_us      INTEGER,
    after          TEXT,                                    -- the schedule or agent whose successes it comes after
    catch_up       TEXT    NOT NULL,
    catch_up_most  INTEGER NOT NULL,
    window_us      INTEGER NOT NULL,
    overlap        TEXT    NOT NULL,
    jitter_us      INTEGER NOT NULL CHECK (jitter_us >= 0),
    queue          TEXT    NOT NULL,
    priority       INTEGER NOT NULL,
    deadline_us    INTEGER,
    created_at_us  INTEGER NOT NULL,
    next_due_us    INTEGER,
    wake_us        INTEGER,
    last_due_us    INTEGER,
    paused         INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    held           TEXT,
    fires          INTEGER NOT NULL DEFAULT 0,
    missed         INTEGER NOT NULL DEFAULT 0,
    skipped        INTEGER NOT NULL DEFAULT 0,
    CHECK ((cron IS NOT NULL) + (every_us IS NOT NULL) + (after IS NOT NULL) = 1),
    CHECK ((cron IS NULL) = (zone IS NULL) AND (every_us IS NULL) = (anchor_us IS NULL)),
    CHECK (held IS NULL OR paused = 1)
) STRICT;

CREATE INDEX schedules_wake ON schedules (wake_us) WHERE wake_us IS NOT NULL AND paused = 0;
CREATE INDEX schedules_after ON schedules (after) WHERE after IS NOT NULL;

CREATE TRIGGER schedules_go_forward BEFORE UPDATE OF last_due_us, fires ON schedules
WHEN NEW.last_due_us < OLD.last_due_us OR NEW.fires < OLD.fires
BEGIN SELECT RAISE(ABORT, 'a due time is met once'); END;

CREATE TABLE schedule_fires (
    schedule TEXT    NOT NULL REFERENCES schedules (name) ON DELETE CASCADE,
    n        INTEGER NOT NULL CHECK (n > 0),
    mark     TEXT    NOT NULL,
    due_us   INTEGER NOT NULL,
    cause    TEXT    NOT NULL,
    status   TEXT    NOT NULL,
    run      TEXT,
    run_key  INTEGER,                                       -- no reference: the history outlives the runs
    active   INTEGER NOT NULL DEFAULT 0 CHECK (active IN (0, 1)),
    at_us    INTEGER NOT NULL,
    why      TEXT,
    source   TEXT,
    held     INTEGER NOT NULL DEFAULT 0 CHECK (held IN (0, 1)),
    PRIMARY KEY (schedule, n),
    UNIQUE (schedule, mark),
    CHECK (active = 0 OR run_key IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX schedule_fires_run ON schedule_fires (run_key) WHERE run_key IS NOT NULL;
CREATE INDEX schedule_fires_waiting ON schedule_fires (schedule, n) WHERE status = 'queued';
CREATE INDEX schedule_fires_active ON schedule_fires (schedule, n) WHERE active = 1;
