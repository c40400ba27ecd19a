-- Questions to people, and their answers.
--
--   approvals   a question that a run asked. `n` is the position of the entry that asked it, so a question that is asked
--               anew is another row. Its answer is delivered as a signal of the run, in the same transaction.

CREATE TABLE approvals (
    run            INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    n              INTEGER NOT NULL,
    segment        INTEGER NOT NULL,
    question_hash  BLOB    NOT NULL,                        -- of its identity, its words, its options and its context
    question       TEXT    NOT NULL,
    options        BLOB    NOT NULL,                        -- JSON: ["yes", "no"]
    context        BLOB    NOT NULL,                        -- JSON, for the person who answers
    status         TEXT    NOT NULL CHECK (status IN ('open', 'answered', 'expired', 'withdrawn')),
    closed_by      INTEGER,                                 -- withdrawn by this entry, or (0) by the end of the run: open
                                                            -- again when that is undone
    asked_at_us    INTEGER NOT NULL,
    expires_at_us  INTEGER,
    escalate_at_us INTEGER,
    escalate_to    TEXT,
    escalated      INTEGER NOT NULL DEFAULT 0 CHECK (escalated IN (0, 1)),
    choice         TEXT,
    comment        TEXT    NOT NULL DEFAULT '',
    answered_by    TEXT,
    answered_at_us INTEGER,
    UNIQUE (run, n),
    CHECK ((status = 'answered') = (choice IS NOT NULL)),
    CHECK ((choice IS NULL) = (answered_by IS NULL) AND (choice IS NULL) = (answered_at_us IS NULL)),
    CHECK (closed_by IS NULL OR status = 'withdrawn')
) STRICT;

-- Across all runs: what is overdue first, then what was asked first.
CREATE INDEX approvals_open ON approvals (escalated DESC, asked_at_us, run, n) WHERE status = 'open';
CREATE INDEX approvals_escalate ON approvals (escalate_at_us)
    WHERE status = 'open' AND escalated = 0 AND escalate_at_us IS NOT NULL;

CREATE TRIGGER approvals_question BEFORE UPDATE OF run, n, segment, question_hash, question, options, context, asked_at_us
ON approvals
BEGIN SELECT RAISE(ABORT, 'a question never changes'); END;

CREATE TRIGGER approvals_answer BEFORE UPDATE OF status, choice, comment, answered_by, answered_at_us ON approvals
WHEN OLD.status = 'answered'
BEGIN SELECT RAISE(ABORT, 'an answer never changes'); END;

-- The runs that wait for something else than a time or a signal: few, whatever sleeps.
CREATE INDEX runs_for_people ON runs (key) WHERE state = 'waiting' AND reason NOT IN ('sleep', 'signal');
