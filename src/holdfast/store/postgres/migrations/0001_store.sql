CREATE DOMAIN holdfast.word AS text COLLATE "C";         -- in the order of its bytes, whatever the database's own

CREATE FUNCTION holdfast.now_us() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
$$;

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
-- Instants are microseconds since the epoch (`_us`), of the database's clock. Payloads are JSON as bytes.
-- The order of columns is no matter of the code; the laws below are the same as in the store of one file.

CREATE TABLE holdfast.run_moves (
    from_state holdfast.word NOT NULL,
    to_state   holdfast.word NOT NULL,
    PRIMARY KEY (from_state, to_state)
);

INSERT INTO holdfast.run_moves (from_state, to_state) VALUES
    ('queued', 'running'), ('queued', 'waiting'), ('queued', 'failed'), ('queued', 'cancelled'),
    ('running', 'queued'), ('running', 'waiting'), ('running', 'succeeded'), ('running', 'failed'), ('running', 'cancelled'),
    ('waiting', 'queued'), ('waiting', 'running'), ('waiting', 'failed'), ('waiting', 'cancelled'),
    ('failed', 'queued'), ('cancelled', 'queued');

CREATE TABLE holdfast.workers (
    key            bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- never used twice: it names a generation for ever
    name           holdfast.word NOT NULL,
    host           holdfast.word NOT NULL,
    pid            bigint NOT NULL,
    capacity       bigint NOT NULL CHECK (capacity >= 0),
    serves         bytea NOT NULL,  -- JSON: [[agent, version], ...]
    started_at_us  bigint NOT NULL,
    lock_path      holdfast.word,
    boot_id        holdfast.word NOT NULL,
    lease_until_us bigint NOT NULL,  
    draining       boolean NOT NULL DEFAULT false,
    retired        boolean NOT NULL DEFAULT false,
    counted        boolean NOT NULL DEFAULT false,  -- retired, and its runs count a crash
    apart          bytea NOT NULL,  -- those of them whose runs have a process each
    labels         holdfast.word NOT NULL DEFAULT '',  -- for runs that need them
    fell_with      bigint,  -- how many runs it held when it was first found dead
    sample         bytea
);

CREATE TABLE holdfast.runs (
    key              bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- never used twice: a zombie must not meet a new run
    id               holdfast.word NOT NULL UNIQUE,
    agent            holdfast.word NOT NULL,
    version          holdfast.word NOT NULL,
    queue            holdfast.word NOT NULL,
    priority         bigint NOT NULL,
    state            holdfast.word NOT NULL,
    reason           holdfast.word,
    claimable        boolean NOT NULL,  -- false: claimed by id only
    created_at_us    bigint NOT NULL,
    token            bigint NOT NULL DEFAULT 0 CHECK (token >= 0),
    position         bigint NOT NULL DEFAULT 0,
    event_no         bigint NOT NULL DEFAULT 0,
    steps            bigint NOT NULL DEFAULT 0,
    step             holdfast.word,
    checkpoint_n     bigint NOT NULL DEFAULT 0,
    worker           bigint REFERENCES holdfast.workers (key),
    claimed_by       bigint,  -- the newest claim's worker, until the attempt settles
    available_at_us  bigint,
    attempts         bigint NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    failures         bigint NOT NULL DEFAULT 0 CHECK (failures >= 0),
    crashes          bigint NOT NULL DEFAULT 0 CHECK (crashes >= 0),
    crashes_alone    bigint NOT NULL DEFAULT 0 CHECK (crashes_alone >= 0),
    suspect          boolean NOT NULL DEFAULT false,
    claimed_position bigint NOT NULL DEFAULT 0,
    asked            holdfast.word,
    wait_name        holdfast.word,
    inbox_no         bigint NOT NULL DEFAULT 0,
    deadline_at_us   bigint,
    started_at_us    bigint,
    finished_at_us   bigint,
    input_hash       bytea NOT NULL,
    needs            holdfast.word NOT NULL DEFAULT '',  -- of a worker, sorted, with commas between
    CHECK (state IN ('queued', 'running', 'waiting', 'succeeded', 'failed', 'cancelled')),
    CHECK ((state = 'running') = (worker IS NOT NULL)),
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (finished_at_us IS NOT NULL)),
    CHECK (0 <= position AND position <= event_no),
    CHECK (claimed_position <= position)
);

-- Claims: within one priority, order of claiming is order of availability, so the head of each
-- (agent, version, needs, queue, priority) is found by one seek, whatever waits behind it or is not due yet.
CREATE INDEX runs_due ON holdfast.runs (agent, version, needs, queue, priority, available_at_us)
    WHERE claimable AND available_at_us IS NOT NULL AND state IN ('queued', 'waiting');
CREATE INDEX runs_live ON holdfast.runs (queue) WHERE state = 'running';
CREATE INDEX runs_of_worker ON holdfast.runs (worker) WHERE worker IS NOT NULL;
CREATE INDEX runs_claimed_by ON holdfast.runs (claimed_by) WHERE claimed_by IS NOT NULL;
CREATE INDEX runs_deadline ON holdfast.runs (deadline_at_us) WHERE deadline_at_us IS NOT NULL AND finished_at_us IS NULL;
CREATE INDEX runs_finished ON holdfast.runs (finished_at_us) WHERE finished_at_us IS NOT NULL;
CREATE INDEX runs_unfinished ON holdfast.runs (agent, input_hash) WHERE finished_at_us IS NULL;
CREATE INDEX runs_suspect ON holdfast.runs (agent, version)
    WHERE suspect AND claimable AND available_at_us IS NOT NULL AND state IN ('queued', 'waiting');
CREATE INDEX runs_without_code ON holdfast.runs (agent, version) WHERE reason = 'needs_code';
CREATE INDEX runs_by_state ON holdfast.runs (state);
CREATE INDEX runs_by_agent ON holdfast.runs (agent);
CREATE INDEX runs_needing ON holdfast.runs (needs) WHERE needs <> '' AND finished_at_us IS NULL;
CREATE INDEX runs_queued ON holdfast.runs (queue) WHERE state = 'queued';

-- Rewritten by every commit: narrow, no index on what changes, and room on its pages for the next version.
CREATE TABLE holdfast.live (
    run          bigint PRIMARY KEY REFERENCES holdfast.runs (key) ON DELETE CASCADE,
    token        bigint NOT NULL,
    position     bigint NOT NULL,
    event_no     bigint NOT NULL,
    steps        bigint NOT NULL,
    checkpoint_n bigint NOT NULL,
    step         holdfast.word,
    reason       holdfast.word,
    CHECK (0 <= position AND position <= event_no)
) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Who writes: each connection of each process has a row, and counts its transactions in it. One whose answer was lost
-- is looked up here; to look also counts, so that what arrives late changes nothing.
CREATE TABLE holdfast.writers (
    id    holdfast.word PRIMARY KEY,
    n     bigint NOT NULL,
    at_us bigint NOT NULL
) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE TABLE holdfast.blobs (
    key        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run        bigint NOT NULL,
    sha256     bytea NOT NULL CHECK (length(sha256) = 32),  -- of the payload, not of `body`
    size_bytes bigint NOT NULL,
    encoding   holdfast.word NOT NULL CHECK (encoding IN ('raw', 'zstd')),
    body       bytea NOT NULL
);

CREATE INDEX blobs_of_run ON holdfast.blobs (run);

CREATE TABLE holdfast.run_payloads (
    run         bigint PRIMARY KEY REFERENCES holdfast.runs (key) ON DELETE CASCADE,
    input       bytea,
    input_blob  bigint,
    result      bytea,
    result_blob bigint,
    failure     bytea,
    mismatch    bytea,
    CHECK ((input IS NULL) <> (input_blob IS NULL)),
    CHECK (result IS NULL OR result_blob IS NULL)
);

-- Rows as the code reads them: the order of the columns is the code's, in rows.py.
CREATE VIEW holdfast.run_rows AS
SELECT runs.key, id, agent, version, queue, priority, state, CASE WHEN live.run IS NULL THEN runs.reason ELSE live.reason END AS reason,
       created_at_us, runs.token, coalesce(live.position, runs.position) AS position,
       coalesce(live.event_no, runs.event_no) AS event_no, coalesce(live.steps, runs.steps) AS steps,
       CASE WHEN live.run IS NULL THEN runs.step ELSE live.step END AS step,
       coalesce(live.checkpoint_n, runs.checkpoint_n) AS checkpoint_n, worker, available_at_us, attempts, failures, crashes, crashes_alone, suspect,
       claimed_position, asked, wait_name, inbox_no, deadline_at_us, started_at_us, finished_at_us, failure, mismatch, needs
FROM holdfast.runs JOIN holdfast.run_payloads ON run_payloads.run = runs.key LEFT JOIN holdfast.live ON live.run = runs.key;

CREATE VIEW holdfast.whole_runs AS
SELECT runs.key, id, agent, version, queue, priority, state, CASE WHEN live.run IS NULL THEN runs.reason ELSE live.reason END AS reason,
       created_at_us, runs.token, coalesce(live.position, runs.position) AS position,
       coalesce(live.event_no, runs.event_no) AS event_no, coalesce(live.steps, runs.steps) AS steps,
       CASE WHEN live.run IS NULL THEN runs.step ELSE live.step END AS step,
       coalesce(live.checkpoint_n, runs.checkpoint_n) AS checkpoint_n, worker, available_at_us, attempts, failures, crashes, crashes_alone, suspect,
       claimed_position, asked, wait_name, inbox_no, deadline_at_us, started_at_us, finished_at_us, failure, mismatch, needs,
       input, input_blob, result, result_blob
FROM holdfast.runs JOIN holdfast.run_payloads ON run_payloads.run = runs.key LEFT JOIN holdfast.live ON live.run = runs.key;

CREATE TABLE holdfast.events (
    run           bigint NOT NULL,  -- the fence guards it: no reference is looked up for every row
    n             bigint NOT NULL,
    at_us         bigint NOT NULL,
    type          holdfast.word NOT NULL,
    position      bigint,  -- from here to `signal`: entries of the journal only
    kind          holdfast.word,
    status        holdfast.word,
    segment       bigint,
    scope         holdfast.word,
    name          holdfast.word,
    key           holdfast.word,
    occurrence    bigint,
    started_at_us bigint,
    token         bigint,
    args_hash     bytea,
    signal        bigint,
    superseded    boolean NOT NULL DEFAULT false,
    payload       bytea,
    blob          bigint,
    UNIQUE (run, n),
    CHECK ((position IS NULL) = (status IS NULL)),
    CHECK ((payload IS NULL) <> (blob IS NULL))
);

CREATE INDEX events_setup ON holdfast.events (run, n) WHERE segment = -1 AND kind <> 'once';
CREATE UNIQUE INDEX events_once ON holdfast.events (run, key)
    WHERE kind = 'once' AND NOT superseded AND status IN ('ok', 'failed');

CREATE TABLE holdfast.checkpoints (
    run        bigint NOT NULL REFERENCES holdfast.runs (key) ON DELETE CASCADE,
    n          bigint NOT NULL CHECK (n > 0),
    segment    bigint NOT NULL,
    name       holdfast.word,
    at_us      bigint NOT NULL,
    event_no   bigint NOT NULL,  -- the tail is what follows this event
    keep       bigint NOT NULL,
    now_us     bigint NOT NULL,  -- what the code's own clock says where it continues
    state      bytea NOT NULL,
    sha256     bytea NOT NULL,  -- of the state, not of its encoding
    size_bytes bigint NOT NULL,
    encoding   holdfast.word NOT NULL,
    corrupt    boolean NOT NULL DEFAULT false,  -- found bad, and said so in the feed
    UNIQUE (run, n)
);

CREATE TABLE holdfast.signals (
    run      bigint NOT NULL REFERENCES holdfast.runs (key) ON DELETE CASCADE,
    n        bigint NOT NULL,
    name     holdfast.word NOT NULL,
    at_us    bigint NOT NULL,
    dedup    holdfast.word,
    consumed bigint,  -- the position of the entry that consumed it
    payload  bytea,
    blob     bigint,
    UNIQUE (run, n),
    CHECK ((payload IS NULL) <> (blob IS NULL))
);

CREATE UNIQUE INDEX signals_dedup ON holdfast.signals (run, dedup) WHERE dedup IS NOT NULL;
CREATE INDEX signals_inbox ON holdfast.signals (run, n) WHERE consumed IS NULL;

CREATE TABLE holdfast.resolutions (
    run        bigint NOT NULL REFERENCES holdfast.runs (key) ON DELETE CASCADE,
    n          bigint NOT NULL,  -- counts up within the run
    resolution bytea NOT NULL,
    UNIQUE (run, n)
);

CREATE TABLE holdfast.progress (
    run           bigint PRIMARY KEY REFERENCES holdfast.runs (key) ON DELETE CASCADE,
    current       double precision NOT NULL,
    total         double precision,
    description   holdfast.word NOT NULL,
    phase         holdfast.word,
    started_at_us bigint NOT NULL,
    updated_at_us bigint NOT NULL
);

CREATE TABLE holdfast.queues (
    name     holdfast.word PRIMARY KEY,  -- '*': all queues together
    at_most  bigint CHECK (at_most IS NULL OR at_most >= 0)
);

-- What people call their runs by, besides the id: `customer=7`, or a word alone, whose value is ''.

CREATE TABLE holdfast.tags (
    run   bigint NOT NULL REFERENCES holdfast.runs (key) ON DELETE CASCADE,
    name  holdfast.word NOT NULL,
    value holdfast.word NOT NULL,
    PRIMARY KEY (run, name)
);

CREATE INDEX tags_named ON holdfast.tags (name, value, run);

-- Schedules: what starts runs by itself, and what became of every fire.
--
--   schedules       a schedule, its policies, and where it stands. `wake_us` is when a controller must look at it.
--   schedule_fires  its newest fires, numbered without gaps. `mark` is the identity of a fire: what is met once is
--                   never met again. `run_key` is the run that it became; `active` while that run is unfinished.

CREATE TABLE holdfast.schedules (
    name           holdfast.word PRIMARY KEY,
    agent          holdfast.word NOT NULL,
    version        holdfast.word NOT NULL,
    input          bytea NOT NULL,
    cron           holdfast.word,
    zone           holdfast.word,
    every_us       bigint CHECK (every_us > 0),
    anchor_us      bigint,
    after          holdfast.word,  -- the schedule or agent whose successes it comes after
    catch_up       holdfast.word NOT NULL,
    catch_up_most  bigint NOT NULL,
    window_us      bigint NOT NULL,
    overlap        holdfast.word NOT NULL,
    jitter_us      bigint NOT NULL CHECK (jitter_us >= 0),
    queue          holdfast.word NOT NULL,
    priority       bigint NOT NULL,
    deadline_us    bigint,
    created_at_us  bigint NOT NULL,
    next_due_us    bigint,
    wake_us        bigint,
    last_due_us    bigint,
    paused         boolean NOT NULL DEFAULT false,
    held           holdfast.word,
    fires          bigint NOT NULL DEFAULT 0,
    missed         bigint NOT NULL DEFAULT 0,
    skipped        bigint NOT NULL DEFAULT 0,
    needs          holdfast.word NOT NULL DEFAULT '',  -- of every run of it
    CHECK (num_nonnulls(cron, every_us, after) = 1),
    CHECK ((cron IS NULL) = (zone IS NULL) AND (every_us IS NULL) = (anchor_us IS NULL)),
    CHECK (held IS NULL OR paused)
);

CREATE INDEX schedules_wake ON holdfast.schedules (wake_us) WHERE wake_us IS NOT NULL AND NOT paused;
CREATE INDEX schedules_after ON holdfast.schedules (after) WHERE after IS NOT NULL;

CREATE TABLE holdfast.schedule_fires (
    schedule holdfast.word NOT NULL REFERENCES holdfast.schedules (name) ON DELETE CASCADE,
    n        bigint NOT NULL CHECK (n > 0),
    mark     holdfast.word NOT NULL,
    due_us   bigint NOT NULL,
    cause    holdfast.word NOT NULL,
    status   holdfast.word NOT NULL,
    run      holdfast.word,
    run_key  bigint,  -- no reference: the history outlives the runs
    active   boolean NOT NULL DEFAULT false,
    at_us    bigint NOT NULL,
    why      holdfast.word,
    source   holdfast.word,
    held     boolean NOT NULL DEFAULT false,
    PRIMARY KEY (schedule, n),
    UNIQUE (schedule, mark),
    CHECK (NOT active OR run_key IS NOT NULL)
);

CREATE INDEX schedule_fires_run ON holdfast.schedule_fires (run_key) WHERE run_key IS NOT NULL;
CREATE INDEX schedule_fires_waiting ON holdfast.schedule_fires (schedule, n) WHERE status = 'queued';
CREATE INDEX schedule_fires_active ON holdfast.schedule_fires (schedule, n) WHERE active;

-- What lives only as long as a step. Neither table is part of the journal.
--
--   cursors   where a long step is, for its next try: one row per call, until the call is over.
--   outputs   streamed text for watchers: a short stretch, while the run is executed.

CREATE TABLE holdfast.cursors (
    seq       bigint GENERATED ALWAYS AS IDENTITY,  -- the order of two of one microsecond
    run       bigint NOT NULL REFERENCES holdfast.runs (key) ON DELETE CASCADE,
    identity  holdfast.word NOT NULL,  -- JSON: [segment, scope, name, key, occurrence]
    args_hash bytea NOT NULL,
    cursor    bytea NOT NULL,
    position  bigint NOT NULL,  -- the run's when it was recorded
    at_us     bigint NOT NULL,
    UNIQUE (run, identity)
);

CREATE TABLE holdfast.outputs (
    n        bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- never used twice: watchers go on after it
    run      bigint NOT NULL REFERENCES holdfast.runs (key) ON DELETE CASCADE,
    at_us    bigint NOT NULL,
    identity holdfast.word NOT NULL,
    start    bigint NOT NULL,  -- characters that this try streamed before
    text     holdfast.word NOT NULL
);

CREATE INDEX outputs_of_run ON holdfast.outputs (run, n);

-- Questions to people, and their answers.
--
--   approvals   a question that a run asked. `n` is the position of the entry that asked it, so a question that is asked
--               anew is another row. Its answer is delivered as a signal of the run, in the same transaction.

CREATE TABLE holdfast.approvals (
    run            bigint NOT NULL REFERENCES holdfast.runs (key) ON DELETE CASCADE,
    n              bigint NOT NULL,
    segment        bigint NOT NULL,
    question_hash  bytea NOT NULL,  -- of its identity, its words, its options and its context
    question       holdfast.word NOT NULL,
    options        bytea NOT NULL,  -- JSON: ["yes", "no"]
    context        bytea NOT NULL,  -- JSON, for the person who answers
    status         holdfast.word NOT NULL CHECK (status IN ('open', 'answered', 'expired', 'withdrawn')),
    closed_by      bigint,  -- withdrawn by this entry, or (0) by the end of the run: open
                                                            -- again when that is undone
    asked_at_us    bigint NOT NULL,
    expires_at_us  bigint,
    escalate_at_us bigint,
    escalate_to    holdfast.word,
    escalated      boolean NOT NULL DEFAULT false,
    choice         holdfast.word,
    comment        holdfast.word NOT NULL DEFAULT '',
    answered_by    holdfast.word,
    answered_at_us bigint,
    UNIQUE (run, n),
    CHECK ((status = 'answered') = (choice IS NOT NULL)),
    CHECK ((choice IS NULL) = (answered_by IS NULL) AND (choice IS NULL) = (answered_at_us IS NULL)),
    CHECK (closed_by IS NULL OR status = 'withdrawn')
);

-- Across all runs: what is overdue first, then what was asked first.
CREATE INDEX approvals_open ON holdfast.approvals (escalated DESC, asked_at_us, run, n) WHERE status = 'open';
CREATE INDEX approvals_escalate ON holdfast.approvals (escalate_at_us)
    WHERE status = 'open' AND NOT escalated AND escalate_at_us IS NOT NULL;

-- The runs that wait for something else than a time or a signal: few, whatever sleeps.
CREATE INDEX runs_for_people ON holdfast.runs (key) WHERE state = 'waiting' AND reason NOT IN ('sleep', 'signal');

-- Artifacts: what a run made and keeps, by the hash of its content.
--
--   artifacts       which run made what, beside the entry that says so.
--   contents        bytes by their hash, stored once whatever refers to them. Not sealed (`sha256` NULL): still on its
--                   way in, or on its way out; nothing may refer to it. `touched_at_us`: somebody is about to refer to it.
--   content_chunks  which chunks a content is made of, in order.
--   chunks          the bytes, in pieces that a transaction writes in milliseconds; each stored once.

CREATE TABLE holdfast.contents (
    key           bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- never used twice: an upload that was swept stays refused
    sha256        bytea UNIQUE CHECK (sha256 IS NULL OR length(sha256) = 32),
    size_bytes    bigint NOT NULL DEFAULT 0 CHECK (size_bytes >= 0),
    chunks        bigint NOT NULL DEFAULT 0 CHECK (chunks >= 0),
    referred      bigint NOT NULL DEFAULT 0 CHECK (referred >= 0),  -- how many artifacts have it
    touched_at_us bigint NOT NULL
);

CREATE INDEX contents_orphaned ON holdfast.contents (touched_at_us) WHERE referred = 0;

CREATE TABLE holdfast.chunks (
    key        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sha256     bytea NOT NULL UNIQUE CHECK (length(sha256) = 32),  -- of the bytes, not of `body`
    size_bytes bigint NOT NULL,
    encoding   holdfast.word NOT NULL CHECK (encoding IN ('raw', 'zstd')),
    body       bytea NOT NULL
);

CREATE TABLE holdfast.content_chunks (
    content bigint NOT NULL REFERENCES holdfast.contents (key),
    n       bigint NOT NULL CHECK (n >= 0),
    chunk   bigint NOT NULL REFERENCES holdfast.chunks (key),
    PRIMARY KEY (content, n)
);

CREATE INDEX content_chunks_of_chunk ON holdfast.content_chunks (chunk);

CREATE TABLE holdfast.artifacts (
    run        bigint NOT NULL REFERENCES holdfast.runs (key) ON DELETE CASCADE,
    position   bigint NOT NULL,  -- of the entry that recorded it
    name       holdfast.word NOT NULL,
    content    bigint NOT NULL REFERENCES holdfast.contents (key),
    media_type holdfast.word NOT NULL,
    at_us      bigint NOT NULL,
    superseded boolean NOT NULL DEFAULT false,
    PRIMARY KEY (run, position)
);

CREATE INDEX artifacts_of_content ON holdfast.artifacts (content);

-- The parts used alone: states, checkpoints and progress of an owner that is no run. `owner` is the id that people gave.

-- A deleted state leaves its row, so that its versions go on counting: a writer that saw an older one stays refused.
CREATE TABLE holdfast.states (
    owner      holdfast.word PRIMARY KEY,
    version    bigint NOT NULL CHECK (version > 0),
    at_us      bigint NOT NULL,
    state      bytea,
    sha256     bytea,  -- of the state, not of its encoding
    encoding   holdfast.word,
    CHECK ((state IS NULL) = (sha256 IS NULL) AND (state IS NULL) = (encoding IS NULL))
);

CREATE TABLE holdfast.owners (
    owner        holdfast.word PRIMARY KEY,
    checkpoint_n bigint NOT NULL                           -- the newest number given, whatever was deleted since
);

CREATE TABLE holdfast.owned_checkpoints (
    owner      holdfast.word NOT NULL REFERENCES holdfast.owners (owner),
    n          bigint NOT NULL CHECK (n > 0),
    name       holdfast.word,
    at_us      bigint NOT NULL,
    state      bytea NOT NULL,
    sha256     bytea NOT NULL,  -- of the state, not of its encoding
    size_bytes bigint NOT NULL,
    encoding   holdfast.word NOT NULL,
    UNIQUE (owner, n)
);

CREATE TABLE holdfast.owned_progress (
    owner         holdfast.word PRIMARY KEY,
    version       bigint NOT NULL,  -- counts the reports: two in one microsecond are two
    current       double precision NOT NULL,
    total         double precision,
    description   holdfast.word NOT NULL,
    phase         holdfast.word,
    started_at_us bigint NOT NULL,
    updated_at_us bigint NOT NULL
);

-- Runs that another run started.
--
--   children         whose a run is, what becomes of it when that one ends, and how it stands.
--   children_behind  parents whose end, or retry, has not reached all of their children yet: sweeps go on with it.

CREATE TABLE holdfast.children (
    child         bigint PRIMARY KEY REFERENCES holdfast.runs (key) ON DELETE CASCADE,
    parent        bigint NOT NULL REFERENCES holdfast.runs (key) ON DELETE CASCADE,
    on_parent_end holdfast.word NOT NULL CHECK (on_parent_end IN ('cancel', 'leave')),
    standing      holdfast.word NOT NULL DEFAULT 'open' CHECK (standing IN ('open', 'ended', 'swept')),  -- swept: by its parent's end
    outcome       bigint,  -- the number of the signal that told its parent
    cancelled_by  bigint,  -- the position of the parent's entry beside which it was cancelled
    CHECK (child <> parent),
    CHECK (outcome IS NULL OR standing = 'ended')
);

CREATE INDEX children_of ON holdfast.children (parent, standing, on_parent_end);
CREATE INDEX children_cancelled ON holdfast.children (parent, cancelled_by) WHERE cancelled_by IS NOT NULL;

CREATE TABLE holdfast.children_behind (
    parent bigint PRIMARY KEY REFERENCES holdfast.runs (key) ON DELETE CASCADE
);

-- Runs that ended and are needed all the same: their parent has not taken their outcome, or their children are not
-- told of their end yet.
CREATE VIEW holdfast.runs_needed AS
SELECT parent AS run FROM holdfast.children_behind
UNION ALL
SELECT child AS run FROM holdfast.children
    JOIN holdfast.runs AS parents ON parents.key = children.parent AND parents.finished_at_us IS NULL
    JOIN holdfast.signals ON signals.run = children.parent AND signals.n = children.outcome AND signals.consumed IS NULL;

-- Limits that runs share.
--
--   lanes    the concurrency key of a run that has one, and how it stands with it. Not a part of the claim's index: a run
--            whose key is at its limit leaves the due ones, and is put back by whoever frees a place.
--   schedule_lanes   the key that the runs of a schedule get.
--   rates    how far ahead a shared rate is booked, as of the last turn that was taken.
--   turns    turns that lie so far ahead that their run is unloaded until then.

CREATE TABLE holdfast.lanes (
    run          bigint PRIMARY KEY REFERENCES holdfast.runs (key) ON DELETE CASCADE,
    key          holdfast.word NOT NULL,
    at_most      bigint NOT NULL CHECK (at_most >= 1),
    stands       holdfast.word NOT NULL DEFAULT 'apart' CHECK (stands IN ('apart', 'in_line', 'called', 'running')),
    place        bigint,  -- in the order of claims, while it is in line or called
    due_at_us    bigint,  -- when it was due
    called_at_us bigint,
    CHECK ((stands IN ('in_line', 'called')) = (place IS NOT NULL)),
    CHECK ((place IS NULL) = (due_at_us IS NULL)),
    CHECK ((stands = 'called') = (called_at_us IS NOT NULL))
);

CREATE INDEX lanes_of_key ON holdfast.lanes (key, stands, place, run) WHERE stands <> 'apart';
CREATE INDEX lanes_called ON holdfast.lanes (called_at_us) WHERE called_at_us IS NOT NULL;

CREATE TABLE holdfast.schedule_lanes (
    schedule holdfast.word PRIMARY KEY REFERENCES holdfast.schedules (name) ON DELETE CASCADE,
    key      holdfast.word NOT NULL,
    at_most  bigint NOT NULL CHECK (at_most >= 1)
);

CREATE TABLE holdfast.rates (
    name         holdfast.word PRIMARY KEY,
    units        bigint NOT NULL CHECK (units >= 1),
    period_us    bigint NOT NULL CHECK (period_us >= 1),
    burst        bigint NOT NULL CHECK (burst >= 1),
    pinned       boolean NOT NULL DEFAULT false,  -- by an operator: what code declares does not count
    ahead_us     bigint NOT NULL DEFAULT 0 CHECK (ahead_us >= 0),
    held_back_us bigint NOT NULL DEFAULT 0 CHECK (held_back_us >= 0),
    boot_id      holdfast.word NOT NULL,  -- when that was: on another boot the wall clock tells
    boot_us      bigint NOT NULL,
    wall_us      bigint NOT NULL
);

CREATE TABLE holdfast.turns (
    run     bigint NOT NULL REFERENCES holdfast.runs (key) ON DELETE CASCADE,
    call    holdfast.word NOT NULL,
    rate    holdfast.word NOT NULL,
    boot_id holdfast.word NOT NULL,
    at_us   bigint NOT NULL,  
    PRIMARY KEY (run, call)
);

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

CREATE TABLE holdfast.budgets (
    key          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope        holdfast.word NOT NULL UNIQUE,
    run          bigint UNIQUE REFERENCES holdfast.runs (key) ON DELETE CASCADE,  -- of a run's own
    soft_percent bigint NOT NULL DEFAULT 80 CHECK (soft_percent BETWEEN 1 AND 100),
    per_us       bigint CHECK (per_us > 0),  -- a window, after which it begins anew
    since_us     bigint NOT NULL DEFAULT 0                 -- when this window began
);

CREATE TABLE holdfast.budget_units (
    budget   bigint NOT NULL REFERENCES holdfast.budgets (key) ON DELETE CASCADE,
    unit     holdfast.word NOT NULL,
    hard     bigint CHECK (hard >= 0),
    used     bigint NOT NULL DEFAULT 0 CHECK (used >= 0),
    reserved bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    PRIMARY KEY (budget, unit)
);

CREATE INDEX budgets_limited ON holdfast.budget_units (budget) WHERE hard IS NOT NULL;

CREATE TABLE holdfast.reserved (
    run    bigint NOT NULL,  -- may be gone: then it is settled, too
    call   holdfast.word NOT NULL,
    budget bigint NOT NULL REFERENCES holdfast.budgets (key) ON DELETE CASCADE,
    unit   holdfast.word NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    token  bigint NOT NULL,  -- the attempt
    PRIMARY KEY (run, call, budget, unit)
);

CREATE INDEX reserved_of_budget ON holdfast.reserved (budget);

CREATE TABLE holdfast.budget_waits (
    run    bigint NOT NULL REFERENCES holdfast.runs (key) ON DELETE CASCADE,
    budget bigint NOT NULL REFERENCES holdfast.budgets (key) ON DELETE CASCADE,
    unit   holdfast.word,  -- the smallest call of the run that did not fit: whoever makes room wakes as many as fit
    asked  bigint,
    PRIMARY KEY (run, budget)
);

CREATE INDEX budget_waits_of ON holdfast.budget_waits (budget);

CREATE TABLE holdfast.schedule_budgets (
    schedule     holdfast.word PRIMARY KEY REFERENCES holdfast.schedules (name) ON DELETE CASCADE,
    limits       bytea NOT NULL,  -- JSON: {unit: hard}
    soft_percent bigint NOT NULL CHECK (soft_percent BETWEEN 1 AND 100)
);

CREATE TABLE holdfast.checkpoint_turns (
    run   bigint NOT NULL,
    n     bigint NOT NULL,
    turns bytea NOT NULL,
    PRIMARY KEY (run, n),
    FOREIGN KEY (run, n) REFERENCES holdfast.checkpoints (run, n) ON DELETE CASCADE
);

-- What is seen of runs while they are executed, and what is asked of who executes them.
--
--   samples    the newest sample of a run whose processes are measured apart: small rows, rewritten every few seconds.
--   histories  its whole life in at most some hundred samples: rewritten rarely, and apart, so that samples stay small.
--   wishes     what a person asks: to hold the run back, to kill its attempt of this token.

CREATE TABLE holdfast.samples (
    run    bigint PRIMARY KEY REFERENCES holdfast.runs (key) ON DELETE CASCADE,
    token  bigint NOT NULL,  -- the attempt that it is of
    level  holdfast.word NOT NULL,
    sample bytea NOT NULL                                 -- JSON: see samples.py
);

CREATE TABLE holdfast.histories (
    run        bigint PRIMARY KEY REFERENCES holdfast.runs (key) ON DELETE CASCADE,
    sha256     bytea NOT NULL,
    size_bytes bigint NOT NULL,
    encoding   holdfast.word NOT NULL,
    body       bytea NOT NULL                             -- JSON: [sample, …], oldest first
);

CREATE TABLE holdfast.wishes (
    run       bigint PRIMARY KEY REFERENCES holdfast.runs (key) ON DELETE CASCADE,
    throttled boolean NOT NULL DEFAULT false,
    kill      bigint                                       -- the token of the attempt
);

-- What the code reads to write: the same rows, with the counters of a run that runs held until the end of the transaction.
CREATE FUNCTION holdfast.hold(wanted bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_read_only') = 'off' THEN
        PERFORM FROM holdfast.live WHERE run = wanted FOR UPDATE;
    END IF;
END $$;

CREATE FUNCTION holdfast.the_run(wanted bigint) RETURNS SETOF holdfast.run_rows LANGUAGE plpgsql AS $$
BEGIN
    PERFORM holdfast.hold(wanted);
    RETURN QUERY SELECT * FROM holdfast.run_rows WHERE run_rows.key = wanted;
END $$;

CREATE FUNCTION holdfast.the_whole_run(wanted bigint) RETURNS SETOF holdfast.whole_runs LANGUAGE plpgsql AS $$
BEGIN
    PERFORM holdfast.hold(wanted);
    RETURN QUERY SELECT * FROM holdfast.whole_runs WHERE whole_runs.key = wanted;
END $$;

CREATE FUNCTION holdfast.the_run_called(wanted text) RETURNS SETOF holdfast.whole_runs LANGUAGE plpgsql AS $$
BEGIN
    PERFORM holdfast.hold((SELECT runs.key FROM holdfast.runs WHERE runs.id = wanted));
    RETURN QUERY SELECT * FROM holdfast.whole_runs WHERE whole_runs.id = wanted;
END $$;

-- Runs that come from another store.
--
--   imports   a run that was imported, or is on its way in. `sha256` is that of the lines it came from; NULL: they are not
--             all here yet. Until then the run is `queued (importing)`, and here stands what it shall be.

CREATE TABLE holdfast.imports (
    run            bigint PRIMARY KEY REFERENCES holdfast.runs (key) ON DELETE CASCADE,
    lines          bigint NOT NULL CHECK (lines > 0),  -- written so far
    sha256         bytea CHECK (sha256 IS NULL OR length(sha256) = 32),
    state          holdfast.word NOT NULL CHECK (state IN ('waiting', 'succeeded', 'failed', 'cancelled')),
    reason         holdfast.word,
    claimable      boolean NOT NULL,
    deadline_at_us bigint,
    finished_at_us bigint
);

-- What a failure says, for who looks for a word of it. (A JSON string may hold what a text cannot.)
CREATE FUNCTION holdfast.words_of(failure bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN concat_ws(chr(10), convert_from(failure, 'UTF8')::json ->> 'type', convert_from(failure, 'UTF8')::json ->> 'message');
EXCEPTION WHEN data_exception THEN
    RETURN convert_from(failure, 'UTF8');
END $$;

-- The laws that the database keeps by itself.

CREATE FUNCTION holdfast.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation', MESSAGE = TG_ARGV[0];
END $$;

CREATE TRIGGER runs_start_queued BEFORE INSERT ON holdfast.runs FOR EACH ROW WHEN (NEW.state <> 'queued')
EXECUTE FUNCTION holdfast.refuse('a run begins as queued');

CREATE FUNCTION holdfast.runs_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM holdfast.run_moves WHERE from_state = OLD.state AND to_state = NEW.state) THEN
        RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation', MESSAGE = 'the state table has no such move';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER runs_move BEFORE UPDATE OF state ON holdfast.runs FOR EACH ROW
WHEN (NEW.state <> OLD.state AND OLD.reason IS DISTINCT FROM 'importing')
EXECUTE FUNCTION holdfast.runs_move();

CREATE TRIGGER imports_end BEFORE UPDATE ON holdfast.imports FOR EACH ROW WHEN (OLD.sha256 IS NOT NULL)
EXECUTE FUNCTION holdfast.refuse('an import ends once');

-- Nobody moves a run that is on its way in. When it is whole it may be in any state at once.
CREATE FUNCTION holdfast.runs_importing() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM holdfast.imports WHERE run = OLD.key AND sha256 IS NOT NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation', MESSAGE = 'the run is being imported';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER runs_importing BEFORE UPDATE ON holdfast.runs FOR EACH ROW WHEN (OLD.reason = 'importing')
EXECUTE FUNCTION holdfast.runs_importing();

CREATE TRIGGER runs_imported BEFORE UPDATE OF reason ON holdfast.runs FOR EACH ROW
WHEN (NEW.reason = 'importing' AND OLD.reason IS DISTINCT FROM 'importing')
EXECUTE FUNCTION holdfast.refuse('a run that is there is not imported');

CREATE TRIGGER runs_fence BEFORE UPDATE OF state, worker, token ON holdfast.runs FOR EACH ROW
WHEN (NEW.token < OLD.token
    OR (NEW.worker IS DISTINCT FROM OLD.worker AND NEW.worker IS NOT NULL AND NEW.token = OLD.token))
EXECUTE FUNCTION holdfast.refuse('a token never falls, and rises with every claim');

CREATE TRIGGER runs_count BEFORE UPDATE OF position, event_no ON holdfast.runs FOR EACH ROW
WHEN (NEW.position < OLD.position OR NEW.event_no < OLD.event_no)
EXECUTE FUNCTION holdfast.refuse('the counters of a run never fall');

CREATE FUNCTION holdfast.runs_live_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO holdfast.live (run, token, position, event_no, steps, checkpoint_n, step, reason)
    VALUES (NEW.key, NEW.token, NEW.position, NEW.event_no, NEW.steps, NEW.checkpoint_n, NEW.step, NEW.reason)
    ON CONFLICT (run) DO UPDATE SET token = NEW.token, position = NEW.position, event_no = NEW.event_no,
        steps = NEW.steps, checkpoint_n = NEW.checkpoint_n, step = NEW.step, reason = NEW.reason;
    RETURN NULL;
END $$;
CREATE TRIGGER runs_live_begins
AFTER UPDATE OF state, reason, token, position, event_no, steps, step, checkpoint_n ON holdfast.runs FOR EACH ROW
WHEN (NEW.state = 'running') EXECUTE FUNCTION holdfast.runs_live_begins();

CREATE FUNCTION holdfast.runs_live_ends() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    gone holdfast.live;
BEGIN
    DELETE FROM holdfast.live WHERE run = NEW.key RETURNING * INTO gone;
    IF NEW.position < gone.position OR NEW.event_no < gone.event_no THEN
        RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation', MESSAGE = 'the counters of a run never fall';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER runs_live_ends AFTER UPDATE OF state ON holdfast.runs FOR EACH ROW
WHEN (OLD.state = 'running' AND NEW.state <> 'running') EXECUTE FUNCTION holdfast.runs_live_ends();

CREATE FUNCTION holdfast.live_while_running() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (TG_OP = 'INSERT') <> EXISTS (
        SELECT FROM holdfast.runs WHERE key = CASE TG_OP WHEN 'INSERT' THEN NEW.run ELSE OLD.run END AND state = 'running')
    THEN
        RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation', MESSAGE = TG_ARGV[0];
    END IF;
    RETURN CASE TG_OP WHEN 'INSERT' THEN NEW ELSE OLD END;
END $$;
CREATE TRIGGER live_while_running BEFORE INSERT ON holdfast.live FOR EACH ROW
EXECUTE FUNCTION holdfast.live_while_running('only a run that runs has live counters');
CREATE TRIGGER live_kept BEFORE DELETE ON holdfast.live FOR EACH ROW
EXECUTE FUNCTION holdfast.live_while_running('a run that runs keeps its live counters');

CREATE FUNCTION holdfast.live_token() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.run <> OLD.run OR NEW.token <> (SELECT token FROM holdfast.runs WHERE key = NEW.run) THEN
        RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation', MESSAGE = 'the token is that of the run';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER live_token BEFORE UPDATE OF run, token ON holdfast.live FOR EACH ROW
EXECUTE FUNCTION holdfast.live_token();

CREATE TRIGGER live_counts BEFORE UPDATE OF position, event_no, steps, checkpoint_n ON holdfast.live FOR EACH ROW
WHEN (NEW.position < OLD.position OR NEW.event_no < OLD.event_no OR NEW.steps < OLD.steps
    OR NEW.checkpoint_n < OLD.checkpoint_n)
EXECUTE FUNCTION holdfast.refuse('the counters of a run never fall');

CREATE TRIGGER events_immutable BEFORE UPDATE OF run, n, at_us, type, position, kind, status, segment, scope, name, key,
    occurrence, started_at_us, token, args_hash, signal, payload, blob ON holdfast.events FOR EACH ROW
EXECUTE FUNCTION holdfast.refuse('events are immutable');

CREATE TRIGGER events_superseded BEFORE UPDATE OF superseded ON holdfast.events FOR EACH ROW
WHEN (OLD.position IS NULL OR NOT NEW.superseded)
EXECUTE FUNCTION holdfast.refuse('an entry is superseded once and for all');

CREATE FUNCTION holdfast.events_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM holdfast.runs WHERE key = OLD.run AND finished_at_us IS NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation', MESSAGE = 'the events of an unfinished run stay';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER events_kept BEFORE DELETE ON holdfast.events FOR EACH ROW EXECUTE FUNCTION holdfast.events_kept();

CREATE FUNCTION holdfast.runs_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM holdfast.events WHERE run = OLD.key;
    DELETE FROM holdfast.blobs WHERE run = OLD.key;
    RETURN NULL;
END $$;
CREATE TRIGGER runs_gone AFTER DELETE ON holdfast.runs FOR EACH ROW EXECUTE FUNCTION holdfast.runs_gone();

CREATE TRIGGER schedules_go_forward BEFORE UPDATE OF last_due_us, fires ON holdfast.schedules FOR EACH ROW
WHEN (NEW.last_due_us < OLD.last_due_us OR NEW.fires < OLD.fires)
EXECUTE FUNCTION holdfast.refuse('a due time is met once');

-- A failed run may be tried again, and its steps go on where they were.
CREATE FUNCTION holdfast.runs_step_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state IN ('succeeded', 'cancelled') THEN
        DELETE FROM holdfast.cursors WHERE run = NEW.key;
    END IF;
    IF OLD.state = 'running' AND NEW.state <> 'running' THEN
        DELETE FROM holdfast.outputs WHERE run = NEW.key;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER cursors_and_outputs_end AFTER UPDATE OF state ON holdfast.runs FOR EACH ROW
WHEN (NEW.state IN ('succeeded', 'cancelled') OR (OLD.state = 'running' AND NEW.state <> 'running'))
EXECUTE FUNCTION holdfast.runs_step_out();

CREATE TRIGGER approvals_question BEFORE UPDATE OF run, n, segment, question_hash, question, options, context, asked_at_us
ON holdfast.approvals FOR EACH ROW EXECUTE FUNCTION holdfast.refuse('a question never changes');

CREATE TRIGGER approvals_answer BEFORE UPDATE OF status, choice, comment, answered_by, answered_at_us ON holdfast.approvals
FOR EACH ROW WHEN (OLD.status = 'answered') EXECUTE FUNCTION holdfast.refuse('an answer never changes');

-- A content is sealed once, and what refers to it is whole.
CREATE TRIGGER contents_sealed BEFORE UPDATE OF sha256 ON holdfast.contents FOR EACH ROW
WHEN (OLD.sha256 IS NOT NULL AND (NEW.sha256 IS NOT NULL OR OLD.referred > 0))
EXECUTE FUNCTION holdfast.refuse('a content that is referred to stays as it is');

CREATE FUNCTION holdfast.artifacts_refer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE holdfast.contents SET referred = referred + 1 WHERE key = NEW.content AND sha256 IS NOT NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation', MESSAGE = 'an artifact refers to a whole content';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER artifacts_refer AFTER INSERT ON holdfast.artifacts FOR EACH ROW EXECUTE FUNCTION holdfast.artifacts_refer();

CREATE FUNCTION holdfast.artifacts_let_go() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE holdfast.contents SET referred = referred - 1 WHERE key = OLD.content;
    RETURN NULL;
END $$;
CREATE TRIGGER artifacts_let_go AFTER DELETE ON holdfast.artifacts FOR EACH ROW EXECUTE FUNCTION holdfast.artifacts_let_go();

-- An entry that is superseded takes its artifact off the list.
CREATE FUNCTION holdfast.artifacts_superseded() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE holdfast.artifacts SET superseded = true WHERE run = NEW.run AND position = NEW.position;
    RETURN NULL;
END $$;
CREATE TRIGGER artifacts_superseded AFTER UPDATE OF superseded ON holdfast.events FOR EACH ROW WHEN (NEW.kind = 'artifact')
EXECUTE FUNCTION holdfast.artifacts_superseded();

CREATE TRIGGER states_count BEFORE UPDATE OF version ON holdfast.states FOR EACH ROW WHEN (NEW.version <= OLD.version)
EXECUTE FUNCTION holdfast.refuse('the version of a state only rises');

CREATE TRIGGER owners_count BEFORE UPDATE OF checkpoint_n ON holdfast.owners FOR EACH ROW
WHEN (NEW.checkpoint_n <= OLD.checkpoint_n) EXECUTE FUNCTION holdfast.refuse('the numbers of checkpoints only rise');

CREATE FUNCTION holdfast.wishes_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM holdfast.wishes WHERE run = NEW.key;
    RETURN NULL;
END $$;
CREATE TRIGGER wishes_end AFTER UPDATE OF finished_at_us ON holdfast.runs FOR EACH ROW
WHEN (NEW.finished_at_us IS NOT NULL) EXECUTE FUNCTION holdfast.wishes_end();
