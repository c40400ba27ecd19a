-- Limits that runs share.
--
--   lanes    the concurrency key of a run that has one, and how it stands with it. Not a part of the claim's index: a run
--            whose key is at its limit leaves the due ones, and is put back by whoever frees a place.
--   schedule_lanes   the key that the runs of a schedule get.
--   rates    how far ahead a shared rate is booked, as of the last turn that was taken.
--   turns    turns that lie so far ahead that their run is unloaded until then.
--
-- Rates and turns count in microseconds since boot, as leases do: nobody sets that clock.

CREATE TABLE lanes (
    run          INTEGER PRIMARY KEY REFERENCES runs (key) ON DELETE CASCADE,
    key          TEXT    NOT NULL,
    at_most      INTEGER NOT NULL CHECK (at_most >= 1),
    stands       TEXT    NOT NULL DEFAULT 'apart' CHECK (stands IN ('apart', 'in_line', 'called', 'running')),
    place        INTEGER,                                   -- in the order of claims, while it is in line or called
    due_at_us    INTEGER,                                   -- when it was due
    called_at_us INTEGER,
    CHECK ((stands IN ('in_line', 'called')) = (place IS NOT NULL)),
    CHECK ((place IS NULL) = (due_at_us IS NULL)),
    CHECK ((stands = 'called') = (called_at_us IS NOT NULL))
) STRICT;

CREATE INDEX lanes_of_key ON lanes (key, stands, place, run) WHERE stands <> 'apart';
CREATE INDEX lanes_called ON lanes (called_at_us) WHERE called_at_us IS NOT NULL;

CREATE TABLE schedule_lanes (
    schedule TEXT    PRIMARY KEY REFERENCES schedules (name) ON DELETE CASCADE,
    key      TEXT    NOT NULL,
    at_most  INTEGER NOT NULL CHECK (at_most >= 1)
) STRICT;

CREATE TABLE rates (
    name         TEXT    PRIMARY KEY,
    units        INTEGER NOT NULL CHECK (units >= 1),
    period_us    INTEGER NOT NULL CHECK (period_us >= 1),
    burst        INTEGER NOT NULL CHECK (burst >= 1),
    pinned       INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)),   -- by an operator: what code declares does not count
    ahead_us     INTEGER NOT NULL DEFAULT 0 CHECK (ahead_us >= 0),
    held_back_us INTEGER NOT NULL DEFAULT 0 CHECK (held_back_us >= 0),
    boot_id      TEXT    NOT NULL,                          -- when that was: on another boot the wall clock tells
    boot_us      INTEGER NOT NULL,
    wall_us      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE turns (
    run     INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    call    TEXT    NOT NULL,
    rate    TEXT    NOT NULL,
    boot_id TEXT    NOT NULL,
    at_us   INTEGER NOT NULL,                               -- since boot
    PRIMARY KEY (run, call)
) STRICT, WITHOUT ROWID;
