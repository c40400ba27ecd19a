-- What lives only as long as a step. Neither table is part of the journal.
--
--   cursors   where a long step is, for its next try: one row per call, until the call is over.
--   outputs   streamed text for watchers: a short stretch, while the run is executed.

CREATE TABLE cursors (
    run       INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    identity  TEXT    NOT NULL,                             -- JSON: [segment, scope, name, key, occurrence]
    args_hash BLOB    NOT NULL,
    cursor    BLOB    NOT NULL,
    position  INTEGER NOT NULL,                             -- the run's when it was recorded
    at_us     INTEGER NOT NULL,
    UNIQUE (run, identity)
) STRICT;

CREATE TABLE outputs (
    n        INTEGER PRIMARY KEY AUTOINCREMENT,             -- never used twice: watchers go on after it
    run      INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    at_us    INTEGER NOT NULL,
    identity TEXT    NOT NULL,
    start    INTEGER NOT NULL,                              -- characters that this try streamed before
    text     TEXT    NOT NULL
) STRICT;

CREATE INDEX outputs_of_run ON outputs (run, n);

-- A failed run may be tried again, and its steps go on where they were.
CREATE TRIGGER cursors_end AFTER UPDATE OF state ON runs WHEN NEW.state IN ('succeeded', 'cancelled')
BEGIN DELETE FROM cursors WHERE run = NEW.key; END;

CREATE TRIGGER outputs_end AFTER UPDATE OF state ON runs WHEN OLD.state = 'running' AND NEW.state <> 'running'
BEGIN DELETE FROM outputs WHERE run = NEW.key; END;
