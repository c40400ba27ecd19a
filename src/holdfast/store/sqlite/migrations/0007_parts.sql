-- The parts used alone: states, checkpoints and progress of an owner that is no run. `owner` is the id that people gave.

-- A deleted state leaves its row, so that its versions go on counting: a writer that saw an older one stays refused.
CREATE TABLE states (
    owner      TEXT    PRIMARY KEY,
    version    INTEGER NOT NULL CHECK (version > 0),
    at_us      INTEGER NOT NULL,
    state      BLOB,
    sha256     BLOB,                                        -- of the state, not of its encoding
    encoding   TEXT,
    CHECK ((state IS NULL) = (sha256 IS NULL) AND (state IS NULL) = (encoding IS NULL))
) STRICT;

CREATE TRIGGER states_count BEFORE UPDATE OF version ON states WHEN NEW.version <= OLD.version
BEGIN SELECT RAISE(ABORT, 'the version of a state only rises'); END;

CREATE TABLE owners (
    owner        TEXT    PRIMARY KEY,
    checkpoint_n INTEGER NOT NULL                           -- the newest number given, whatever was deleted since
) STRICT, WITHOUT ROWID;

CREATE TRIGGER owners_count BEFORE UPDATE OF checkpoint_n ON owners WHEN NEW.checkpoint_n <= OLD.checkpoint_n
BEGIN SELECT RAISE(ABORT, 'the numbers of checkpoints only rise'); END;

CREATE TABLE owned_checkpoints (
    owner      TEXT    NOT NULL REFERENCES owners (owner),
    n          INTEGER NOT NULL CHECK (n > 0),
    name       TEXT,
    at_us      INTEGER NOT NULL,
    state      BLOB    NOT NULL,
    sha256     BLOB    NOT NULL,                            -- of the state, not of its encoding
    size_bytes INTEGER NOT NULL,
    encoding   TEXT    NOT NULL,
    UNIQUE (owner, n)
) STRICT;

CREATE TABLE owned_progress (
    owner         TEXT    PRIMARY KEY,
    version       INTEGER NOT NULL,                         -- counts the reports: two in one microsecond are two
    current       REAL    NOT NULL,
    total         REAL,
    description   TEXT    NOT NULL,
    phase         TEXT,
    started_at_us INTEGER NOT NULL,
    updated_at_us INTEGER NOT NULL
) STRICT;
