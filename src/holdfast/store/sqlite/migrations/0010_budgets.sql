-- What runs may use up, and what they have.
--
--   budgets          a scope: that of a run, `agent:NAME`, or `project:NAME` (the runs with the tag project=NAME). A run's
--                    calls are charged to its own, to those of its agent and project, and to all of its ancestors'.
--   budget_units     what a scope limits (hard) or only counts, in grains (model.GRAINS).
--   reserved         what calls in flight have reserved, by run and call: one row for each scope and unit. One whose
--                    attempt is over is settled by a sweep, or when the call asks again.
--   budget_waits     the scopes that a run waits for. Raising one deletes the rows of the run and wakes it.
--   schedule_budgets the budget that the runs of a schedule get.
--   checkpoint_turns what was known of loops where a checkpoint was saved (rules.loops.Turns), when that is anything.

CREATE TABLE budgets (
    key          INTEGER PRIMARY KEY,
    scope        TEXT    NOT NULL UNIQUE,
    run          INTEGER UNIQUE REFERENCES runs (key) ON DELETE CASCADE,    -- of a run's own
    soft_percent INTEGER NOT NULL DEFAULT 80 CHECK (soft_percent BETWEEN 1 AND 100),
    per_us       INTEGER CHECK (per_us > 0),                -- a window, after which it begins anew
    since_us     INTEGER NOT NULL DEFAULT 0                 -- when this window began
) STRICT;

CREATE TABLE budget_units (
    budget   INTEGER NOT NULL REFERENCES budgets (key) ON DELETE CASCADE,
    unit     TEXT    NOT NULL,
    hard     INTEGER CHECK (hard >= 0),
    used     INTEGER NOT NULL DEFAULT 0 CHECK (used >= 0),
    reserved INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    PRIMARY KEY (budget, unit)
) STRICT, WITHOUT ROWID;

CREATE INDEX budgets_limited ON budget_units (budget) WHERE hard IS NOT NULL;

CREATE TABLE reserved (
    run    INTEGER NOT NULL,                                -- may be gone: then it is settled, too
    call   TEXT    NOT NULL,
    budget INTEGER NOT NULL REFERENCES budgets (key) ON DELETE CASCADE,
    unit   TEXT    NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    token  INTEGER NOT NULL,                                -- the attempt
    PRIMARY KEY (run, call, budget, unit)
) STRICT, WITHOUT ROWID;

CREATE INDEX reserved_of_budget ON reserved (budget);

CREATE TABLE budget_waits (
    run    INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    budget INTEGER NOT NULL REFERENCES budgets (key) ON DELETE CASCADE,
    PRIMARY KEY (run, budget)
) STRICT, WITHOUT ROWID;

CREATE INDEX budget_waits_of ON budget_waits (budget);

CREATE TABLE schedule_budgets (
    schedule     TEXT    PRIMARY KEY REFERENCES schedules (name) ON DELETE CASCADE,
    limits       BLOB    NOT NULL,                          -- JSON: {unit: hard}
    soft_percent INTEGER NOT NULL CHECK (soft_percent BETWEEN 1 AND 100)
) STRICT;

CREATE TABLE checkpoint_turns (
    run   INTEGER NOT NULL,
    n     INTEGER NOT NULL,
    turns BLOB    NOT NULL,
    PRIMARY KEY (run, n),
    FOREIGN KEY (run, n) REFERENCES checkpoints (run, n) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
