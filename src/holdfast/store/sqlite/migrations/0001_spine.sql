-- The spine. Few nouns, each a table:
--
--   runs          a run: its state and what the rules decide by.
--   live          the fence (token) and the counters of a run while it runs. Every commit rewrites them, so they lie
--                 narrow and close together, whatever sleeps between the runs; `runs` has them again afterwards.
--   run_payloads  what is read rarely: input, result, failure, mismatch.
--   events        the feed of a run, numbered without gaps. An entry of the journal IS its event: one row, two
--                 counters (`n` the run's, `position` the attempt's).
--   checkpoints   saved states, verified by hash on load.
--   signals       the inbox of a run.       resolutions   an operator's ways out of a mismatch.
--   progress      the newest progress.      blobs         payloads over 8 KiB, compressed, verified by hash.
--   workers       generations of workers and their leases.      queues   limits on live leases.
--   run_moves     the state table; the rules own it, a test compares the two.
--
-- Instants are microseconds since the epoch (`_us`), leases microseconds since boot. Payloads are JSON as bytes.

CREATE TABLE run_moves (
    from_state TEXT NOT NULL,
    to_state   TEXT NOT NULL,
    PRIMARY KEY (from_state, to_state)
) STRICT, WITHOUT ROWID;

INSERT INTO run_moves (from_state, to_state) VALUES
    ('queued', 'running'), ('queued', 'waiting'), ('queued', 'failed'), ('queued', 'cancelled'),
    ('running', 'queued'), ('running', 'waiting'), ('running', 'succeeded'), ('running', 'failed'), ('running', 'cancelled'),
    ('waiting', 'queued'), ('waiting', 'running'), ('waiting', 'failed'), ('waiting', 'cancelled'),
    ('failed', 'queued'), ('cancelled', 'queued');

CREATE TABLE workers (
    key            INTEGER PRIMARY KEY AUTOINCREMENT,       -- never used twice: it names a generation for ever
    name           TEXT    NOT NULL,
    host           TEXT    NOT NULL,
    pid            INTEGER NOT NULL,
    capacity       INTEGER NOT NULL CHECK (capacity >= 0),
    serves         BLOB    NOT NULL,                        -- JSON: [[agent, version], ...]
    started_at_us  INTEGER NOT NULL,
    lock_path      TEXT,
    boot_id        TEXT    NOT NULL,
    lease_until_us INTEGER NOT NULL,                        -- since boot
    draining       INTEGER NOT NULL DEFAULT 0 CHECK (draining IN (0, 1)),
    retired        INTEGER NOT NULL DEFAULT 0 CHECK (retired IN (0, 1)),
    counted        INTEGER NOT NULL DEFAULT 0 CHECK (counted IN (0, 1)),    -- retired, and its runs count a crash
    fell_with      INTEGER,                                 -- how many runs it held when it was first found dead
    sample         BLOB
) STRICT;

CREATE TABLE runs (
    key              INTEGER PRIMARY KEY AUTOINCREMENT,     -- never used twice: a zombie must not meet a new run
    id               TEXT    NOT NULL UNIQUE,
    agent            TEXT    NOT NULL,
    version          TEXT    NOT NULL,
    queue            TEXT    NOT NULL,
    priority         INTEGER NOT NULL,
    state            TEXT    NOT NULL,
    reason           TEXT,
    claimable        INTEGER NOT NULL CHECK (claimable IN (0, 1)),      -- 0: claimed by id only
    created_at_us    INTEGER NOT NULL,
    token            INTEGER NOT NULL DEFAULT 0 CHECK (token >= 0),
    position         INTEGER NOT NULL DEFAULT 0,
    event_no         INTEGER NOT NULL DEFAULT 0,
    steps            INTEGER NOT NULL DEFAULT 0,
    step             TEXT,
    checkpoint_n     INTEGER NOT NULL DEFAULT 0,
    worker           INTEGER REFERENCES workers (key),
    claimed_by       INTEGER,                               -- the newest claim's worker, until the attempt settles
    available_at_us  INTEGER,
    attempts         INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    failures         INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0),
    crashes          INTEGER NOT NULL DEFAULT 0 CHECK (crashes >= 0),
    crashes_alone    INTEGER NOT NULL DEFAULT 0 CHECK (crashes_alone >= 0),
    suspect          INTEGER NOT NULL DEFAULT 0 CHECK (suspect IN (0, 1)),
    claimed_position INTEGER NOT NULL DEFAULT 0,
    asked            TEXT,
    wait_name        TEXT,
    inbox_no         INTEGER NOT NULL DEFAULT 0,
    deadline_at_us   INTEGER,
    started_at_us    INTEGER,
    finished_at_us   INTEGER,
    input_hash       BLOB    NOT NULL,
    CHECK (state IN ('queued', 'running', 'waiting', 'succeeded', 'failed', 'cancelled')),
    CHECK ((state = 'running') = (worker IS NOT NULL)),
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (finished_at_us IS NOT NULL)),
    CHECK (0 <= position AND position <= event_no),
    CHECK (claimed_position <= position)
) STRICT;

-- Claims: within one priority, order of claiming is order of availability, so the head of each
-- (agent, version, queue, priority) is found by one seek, whatever waits behind it or is not due yet.
CREATE INDEX runs_due ON runs (agent, version, queue, priority, available_at_us)
    WHERE claimable = 1 AND available_at_us IS NOT NULL AND state IN ('queued', 'waiting');
CREATE INDEX runs_live ON runs (queue) WHERE state = 'running';
CREATE INDEX runs_of_worker ON runs (worker) WHERE worker IS NOT NULL;
CREATE INDEX runs_claimed_by ON runs (claimed_by) WHERE claimed_by IS NOT NULL;
CREATE INDEX runs_deadline ON runs (deadline_at_us) WHERE deadline_at_us IS NOT NULL AND finished_at_us IS NULL;
CREATE INDEX runs_finished ON runs (finished_at_us) WHERE finished_at_us IS NOT NULL;
CREATE INDEX runs_unfinished ON runs (agent, input_hash) WHERE finished_at_us IS NULL;
CREATE INDEX runs_suspect ON runs (agent, version)
    WHERE suspect = 1 AND claimable = 1 AND available_at_us IS NOT NULL AND state IN ('queued', 'waiting');
CREATE INDEX runs_without_code ON runs (agent, version) WHERE reason = 'needs_code';
CREATE INDEX runs_by_state ON runs (state);
CREATE INDEX runs_by_agent ON runs (agent);
CREATE INDEX runs_queued ON runs (queue) WHERE state = 'queued';

CREATE TRIGGER runs_start_queued BEFORE INSERT ON runs WHEN NEW.state <> 'queued'
BEGIN SELECT RAISE(ABORT, 'a run begins as queued'); END;

CREATE TRIGGER runs_move BEFORE UPDATE OF state ON runs
WHEN NEW.state <> OLD.state
    AND NOT EXISTS (SELECT 1 FROM run_moves WHERE from_state = OLD.state AND to_state = NEW.state)
BEGIN SELECT RAISE(ABORT, 'the state table has no such move'); END;

CREATE TRIGGER runs_fence BEFORE UPDATE OF state, worker, token ON runs
WHEN NEW.token < OLD.token OR (NEW.worker IS NOT OLD.worker AND NEW.worker IS NOT NULL AND NEW.token = OLD.token)
BEGIN SELECT RAISE(ABORT, 'a token never falls, and rises with every claim'); END;

CREATE TRIGGER runs_count BEFORE UPDATE OF position, event_no ON runs
WHEN NEW.position < OLD.position OR NEW.event_no < OLD.event_no
BEGIN SELECT RAISE(ABORT, 'the counters of a run never fall'); END;

CREATE TABLE live (
    run          INTEGER PRIMARY KEY REFERENCES runs (key) ON DELETE CASCADE,
    token        INTEGER NOT NULL,
    position     INTEGER NOT NULL,
    event_no     INTEGER NOT NULL,
    steps        INTEGER NOT NULL,
    checkpoint_n INTEGER NOT NULL,
    step         TEXT,
    reason       TEXT,
    CHECK (0 <= position AND position <= event_no)
) STRICT;

CREATE TRIGGER runs_live_begins AFTER UPDATE OF state, reason, token, position, event_no, steps, step, checkpoint_n ON runs
WHEN NEW.state = 'running'
BEGIN
    INSERT INTO live (run, token, position, event_no, steps, checkpoint_n, step, reason)
    VALUES (NEW.key, NEW.token, NEW.position, NEW.event_no, NEW.steps, NEW.checkpoint_n, NEW.step, NEW.reason)
    ON CONFLICT (run) DO UPDATE SET token = NEW.token, position = NEW.position, event_no = NEW.event_no,
        steps = NEW.steps, checkpoint_n = NEW.checkpoint_n, step = NEW.step, reason = NEW.reason;
END;

CREATE TRIGGER runs_live_ends AFTER UPDATE OF state ON runs WHEN OLD.state = 'running' AND NEW.state <> 'running'
BEGIN
    SELECT RAISE(ABORT, 'the counters of a run never fall') FROM live
    WHERE run = NEW.key AND (NEW.position < position OR NEW.event_no < event_no);
    DELETE FROM live WHERE run = NEW.key;
END;

CREATE TRIGGER live_while_running BEFORE INSERT ON live
WHEN NOT EXISTS (SELECT 1 FROM runs WHERE key = NEW.run AND state = 'running')
BEGIN SELECT RAISE(ABORT, 'only a run that runs has live counters'); END;

CREATE TRIGGER live_kept BEFORE DELETE ON live
WHEN EXISTS (SELECT 1 FROM runs WHERE key = OLD.run AND state = 'running')
BEGIN SELECT RAISE(ABORT, 'a run that runs keeps its live counters'); END;

CREATE TRIGGER live_token BEFORE UPDATE OF run, token ON live
WHEN NEW.run <> OLD.run OR NEW.token <> (SELECT token FROM runs WHERE key = NEW.run)
BEGIN SELECT RAISE(ABORT, 'the token is that of the run'); END;

CREATE TRIGGER live_counts BEFORE UPDATE OF position, event_no, steps, checkpoint_n ON live
WHEN NEW.position < OLD.position OR NEW.event_no < OLD.event_no OR NEW.steps < OLD.steps
    OR NEW.checkpoint_n < OLD.checkpoint_n
BEGIN SELECT RAISE(ABORT, 'the counters of a run never fall'); END;

CREATE TABLE blobs (
    key        INTEGER PRIMARY KEY,
    run        INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    sha256     BLOB    NOT NULL CHECK (length(sha256) = 32),        -- of the payload, not of `body`
    size_bytes INTEGER NOT NULL,
    encoding   TEXT    NOT NULL CHECK (encoding IN ('raw', 'zstd')),
    body       BLOB    NOT NULL
) STRICT;

CREATE INDEX blobs_of_run ON blobs (run);

CREATE TABLE run_payloads (
    run         INTEGER PRIMARY KEY REFERENCES runs (key) ON DELETE CASCADE,
    input       BLOB,
    input_blob  INTEGER,
    result      BLOB,
    result_blob INTEGER,
    failure     BLOB,
    mismatch    BLOB,
    CHECK ((input IS NULL) <> (input_blob IS NULL)),
    CHECK (result IS NULL OR result_blob IS NULL)
) STRICT;

-- Rows as the code reads them: the order of the columns is the code's, in rows.py.
CREATE VIEW run_rows AS
SELECT runs.key, id, agent, version, queue, priority, state, iif(live.run IS NULL, runs.reason, live.reason) AS reason,
       created_at_us, runs.token, coalesce(live.position, runs.position) AS position,
       coalesce(live.event_no, runs.event_no) AS event_no, coalesce(live.steps, runs.steps) AS steps,
       iif(live.run IS NULL, runs.step, live.step) AS step,
       coalesce(live.checkpoint_n, runs.checkpoint_n) AS checkpoint_n, worker, available_at_us, attempts, failures, crashes, crashes_alone, suspect,
       claimed_position, asked, wait_name, inbox_no, deadline_at_us, started_at_us, finished_at_us, failure, mismatch
FROM runs JOIN run_payloads ON run_payloads.run = runs.key LEFT JOIN live ON live.run = runs.key;

CREATE VIEW whole_runs AS
SELECT runs.key, id, agent, version, queue, priority, state, iif(live.run IS NULL, runs.reason, live.reason) AS reason,
       created_at_us, runs.token, coalesce(live.position, runs.position) AS position,
       coalesce(live.event_no, runs.event_no) AS event_no, coalesce(live.steps, runs.steps) AS steps,
       iif(live.run IS NULL, runs.step, live.step) AS step,
       coalesce(live.checkpoint_n, runs.checkpoint_n) AS checkpoint_n, worker, available_at_us, attempts, failures, crashes, crashes_alone, suspect,
       claimed_position, asked, wait_name, inbox_no, deadline_at_us, started_at_us, finished_at_us, failure, mismatch,
       input, input_blob, result, result_blob
FROM runs JOIN run_payloads ON run_payloads.run = runs.key LEFT JOIN live ON live.run = runs.key;

CREATE TABLE events (
    run           INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    n             INTEGER NOT NULL,
    at_us         INTEGER NOT NULL,
    type          TEXT    NOT NULL,
    position      INTEGER,                                  -- from here to `signal`: entries of the journal only
    kind          TEXT,
    status        TEXT,
    segment       INTEGER,
    scope         TEXT,
    name          TEXT,
    key           TEXT,
    occurrence    INTEGER,
    started_at_us INTEGER,
    token         INTEGER,
    args_hash     BLOB,
    signal        INTEGER,
    superseded    INTEGER NOT NULL DEFAULT 0,
    payload       BLOB,
    blob          INTEGER,
    UNIQUE (run, n),
    CHECK ((position IS NULL) = (status IS NULL)),
    CHECK ((payload IS NULL) <> (blob IS NULL))
) STRICT;

CREATE INDEX events_setup ON events (run, n) WHERE segment = -1 AND kind <> 'once';
CREATE UNIQUE INDEX events_once ON events (run, key)
    WHERE kind = 'once' AND superseded = 0 AND status IN ('ok', 'failed');

CREATE TRIGGER events_immutable BEFORE UPDATE OF run, n, at_us, type, position, kind, status, segment, scope, name, key,
    occurrence, started_at_us, token, args_hash, signal, payload, blob ON events
BEGIN SELECT RAISE(ABORT, 'events are immutable'); END;

CREATE TRIGGER events_superseded BEFORE UPDATE OF superseded ON events
WHEN OLD.position IS NULL OR NEW.superseded <> 1
BEGIN SELECT RAISE(ABORT, 'an entry is superseded once and for all'); END;

CREATE TRIGGER events_kept BEFORE DELETE ON events
WHEN EXISTS (SELECT 1 FROM runs WHERE key = OLD.run AND finished_at_us IS NULL)
BEGIN SELECT RAISE(ABORT, 'the events of an unfinished run stay'); END;

CREATE TABLE checkpoints (
    run        INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    n          INTEGER NOT NULL CHECK (n > 0),
    segment    INTEGER NOT NULL,
    name       TEXT,
    at_us      INTEGER NOT NULL,
    event_no   INTEGER NOT NULL,                            -- the tail is what follows this event
    keep       INTEGER NOT NULL,
    now_us     INTEGER NOT NULL,                            -- what the code's own clock says where it continues
    state      BLOB    NOT NULL,
    sha256     BLOB    NOT NULL,                            -- of the state, not of its encoding
    size_bytes INTEGER NOT NULL,
    encoding   TEXT    NOT NULL,
    corrupt    INTEGER NOT NULL DEFAULT 0,                  -- found bad, and said so in the feed
    UNIQUE (run, n)
) STRICT;

CREATE TABLE signals (
    run      INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    n        INTEGER NOT NULL,
    name     TEXT    NOT NULL,
    at_us    INTEGER NOT NULL,
    dedup    TEXT,
    consumed INTEGER,                                       -- the position of the entry that consumed it
    payload  BLOB,
    blob     INTEGER,
    UNIQUE (run, n),
    CHECK ((payload IS NULL) <> (blob IS NULL))
) STRICT;

CREATE UNIQUE INDEX signals_dedup ON signals (run, dedup) WHERE dedup IS NOT NULL;
CREATE INDEX signals_inbox ON signals (run, n) WHERE consumed IS NULL;

CREATE TABLE resolutions (
    run        INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    n          INTEGER NOT NULL,                            -- counts up within the run
    resolution BLOB    NOT NULL,
    UNIQUE (run, n)
) STRICT;

CREATE TABLE progress (
    run           INTEGER PRIMARY KEY REFERENCES runs (key) ON DELETE CASCADE,
    current       REAL    NOT NULL,
    total         REAL,
    description   TEXT    NOT NULL,
    phase         TEXT,
    started_at_us INTEGER NOT NULL,
    updated_at_us INTEGER NOT NULL
) STRICT;

CREATE TABLE queues (
    name     TEXT PRIMARY KEY,                              -- '*': all queues together
    at_most  INTEGER CHECK (at_most IS NULL OR at_most >= 0)
) STRICT, WITHOUT ROWID;
