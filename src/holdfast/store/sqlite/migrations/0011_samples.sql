-- What is seen of runs while they are executed, and what is asked of who executes them.
--
--   samples    the newest sample of a run whose processes are measured apart: small rows, rewritten every few seconds.
--   histories  its whole life in at most some hundred samples: rewritten rarely, and apart, so that samples stay small.
--   wishes     what a person asks: to hold the run back, to kill its attempt of this token.
--
-- workers.apart: those of what a worker serves whose runs have a process each (JSON, as `serves`).

CREATE TABLE samples (
    run    INTEGER PRIMARY KEY REFERENCES runs (key) ON DELETE CASCADE,
    token  INTEGER NOT NULL,                                -- the attempt that it is of
    level  TEXT    NOT NULL,
    sample BLOB    NOT NULL                                 -- JSON: see samples.py
) STRICT;

CREATE TABLE histories (
    run        INTEGER PRIMARY KEY REFERENCES runs (key) ON DELETE CASCADE,
    sha256     BLOB    NOT NULL,
    size_bytes INTEGER NOT NULL,
    encoding   TEXT    NOT NULL,
    body       BLOB    NOT NULL                             -- JSON: [sample, …], oldest first
) STRICT;

CREATE TABLE wishes (
    run       INTEGER PRIMARY KEY REFERENCES runs (key) ON DELETE CASCADE,
    throttled INTEGER NOT NULL DEFAULT 0 CHECK (throttled IN (0, 1)),
    kill      INTEGER                                       -- the token of the attempt
) STRICT;

CREATE TRIGGER wishes_end AFTER UPDATE OF finished_at_us ON runs WHEN NEW.finished_at_us IS NOT NULL
BEGIN DELETE FROM wishes WHERE run = NEW.key; END;

ALTER TABLE workers ADD COLUMN apart BLOB NOT NULL DEFAULT (CAST('[]' AS BLOB));
