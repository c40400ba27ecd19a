-- Runs that come from another store.
--
--   imports   a run that was imported, or is on its way in. `sha256` is that of the lines it came from; NULL: they are not
--             all here yet. Until then the run is `queued (importing)`, and here stands what it shall be.

CREATE TABLE imports (
    run             INTEGER PRIMARY KEY REFERENCES runs (key) ON DELETE CASCADE,
    lines           INTEGER NOT NULL CHECK (lines > 0),     -- written so far
    sha256          BLOB    CHECK (sha256 IS NULL OR length(sha256) = 32),
    state           TEXT    NOT NULL CHECK (state IN ('waiting', 'succeeded', 'failed', 'cancelled')),
    reason          TEXT,
    claimable       INTEGER NOT NULL CHECK (claimable IN (0, 1)),
    deadline_at_us  INTEGER,
    finished_at_us  INTEGER
) STRICT;

CREATE TRIGGER imports_end BEFORE UPDATE ON imports WHEN OLD.sha256 IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'an import ends once'); END;

-- Nobody moves a run that is on its way in. When it is whole it may be in any state at once.
CREATE TRIGGER runs_importing BEFORE UPDATE ON runs
WHEN OLD.reason = 'importing' AND NOT EXISTS (SELECT 1 FROM imports WHERE run = OLD.key AND sha256 IS NOT NULL)
BEGIN SELECT RAISE(ABORT, 'the run is being imported'); END;

CREATE TRIGGER runs_imported BEFORE UPDATE OF reason ON runs WHEN NEW.reason = 'importing' AND OLD.reason IS NOT 'importing'
BEGIN SELECT RAISE(ABORT, 'a run that is there is not imported'); END;

DROP TRIGGER runs_move;

CREATE TRIGGER runs_move BEFORE UPDATE OF state ON runs
WHEN NEW.state <> OLD.state AND OLD.reason IS NOT 'importing'
    AND NOT EXISTS (SELECT 1 FROM run_moves WHERE from_state = OLD.state AND to_state = NEW.state)
BEGIN SELECT RAISE(ABORT, 'the state table has no such move'); END;
