-- Runs that another run started.
--
--   children         whose a run is, what becomes of it when that one ends, and how it stands.
--   children_behind  parents whose end, or retry, has not reached all of their children yet: sweeps go on with it.

CREATE TABLE children (
    child         INTEGER PRIMARY KEY REFERENCES runs (key) ON DELETE CASCADE,
    parent        INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    on_parent_end TEXT    NOT NULL CHECK (on_parent_end IN ('cancel', 'leave')),
    standing      TEXT    NOT NULL DEFAULT 'open' CHECK (standing IN ('open', 'ended', 'swept')),   -- swept: by its parent's end
    outcome       INTEGER,                                  -- the number of the signal that told its parent
    cancelled_by  INTEGER,                                  -- the position of the parent's entry beside which it was cancelled
    CHECK (child <> parent),
    CHECK (outcome IS NULL OR standing = 'ended')
) STRICT;

CREATE INDEX children_of ON children (parent, standing, on_parent_end);
CREATE INDEX children_cancelled ON children (parent, cancelled_by) WHERE cancelled_by IS NOT NULL;

CREATE TABLE children_behind (
    parent INTEGER PRIMARY KEY REFERENCES runs (key) ON DELETE CASCADE
) STRICT;

-- Runs that ended and are needed all the same: their parent has not taken their outcome, or their children are not
-- told of their end yet.
CREATE VIEW runs_needed AS
SELECT parent AS run FROM children_behind
UNION ALL
SELECT child AS run FROM children
    JOIN runs AS parents ON parents.key = children.parent AND parents.finished_at_us IS NULL
    JOIN signals ON signals.run = children.parent AND signals.n = children.outcome AND signals.consumed IS NULL;
