-- Limits that runs share.
--
--   lanes    the concurrency key of a run that has one, and how it stands with it. Not a part of the claim's index: a run
--            whose key is at its limit leaves the due ones, and is put back by whoever frees a place.

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
