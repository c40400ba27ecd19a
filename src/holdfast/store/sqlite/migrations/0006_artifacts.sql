-- Artifacts: what a run made and keeps, by the hash of its content.
--
--   artifacts       which run made what, beside the entry that says so.
--   contents        bytes by their hash, stored once whatever refers to them. Not sealed (`sha256` NULL): still on its
--                   way in, or on its way out; nothing may refer to it. `touched_at_us`: somebody is about to refer to it.
--   content_chunks  which chunks a content is made of, in order.
--   chunks          the bytes, in pieces that a transaction writes in milliseconds; each stored once.

CREATE TABLE contents (
    key           INTEGER PRIMARY KEY AUTOINCREMENT,        -- never used twice: an upload that was swept stays refused
    sha256        BLOB    UNIQUE CHECK (sha256 IS NULL OR length(sha256) = 32),
    size_bytes    INTEGER NOT NULL DEFAULT 0 CHECK (size_bytes >= 0),
    chunks        INTEGER NOT NULL DEFAULT 0 CHECK (chunks >= 0),
    referred      INTEGER NOT NULL DEFAULT 0 CHECK (referred >= 0),     -- how many artifacts have it
    touched_at_us INTEGER NOT NULL
) STRICT;

CREATE INDEX contents_orphaned ON contents (touched_at_us) WHERE referred = 0;

CREATE TABLE chunks (
    key        INTEGER PRIMARY KEY,
    sha256     BLOB    NOT NULL UNIQUE CHECK (length(sha256) = 32),     -- of the bytes, not of `body`
    size_bytes INTEGER NOT NULL,
    encoding   TEXT    NOT NULL CHECK (encoding IN ('raw', 'zstd')),
    body       BLOB    NOT NULL
) STRICT;

CREATE TABLE content_chunks (
    content INTEGER NOT NULL REFERENCES contents (key),
    n       INTEGER NOT NULL CHECK (n >= 0),
    chunk   INTEGER NOT NULL REFERENCES chunks (key),
    PRIMARY KEY (content, n)
) STRICT, WITHOUT ROWID;

CREATE INDEX content_chunks_of_chunk ON content_chunks (chunk);

CREATE TABLE artifacts (
    run        INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    position   INTEGER NOT NULL,                            -- of the entry that recorded it
    name       TEXT    NOT NULL,
    content    INTEGER NOT NULL REFERENCES contents (key),
    media_type TEXT    NOT NULL,
    at_us      INTEGER NOT NULL,
    superseded INTEGER NOT NULL DEFAULT 0 CHECK (superseded IN (0, 1)),
    PRIMARY KEY (run, position)
) STRICT, WITHOUT ROWID;

CREATE INDEX artifacts_of_content ON artifacts (content);

-- A content is sealed once, and what refers to it is whole.
CREATE TRIGGER contents_sealed BEFORE UPDATE OF sha256 ON contents
WHEN OLD.sha256 IS NOT NULL AND (NEW.sha256 IS NOT NULL OR OLD.referred > 0)
BEGIN SELECT RAISE(ABORT, 'a content that is referred to stays as it is'); END;

CREATE TRIGGER artifacts_of_sealed BEFORE INSERT ON artifacts
WHEN NOT EXISTS (SELECT 1 FROM contents WHERE key = NEW.content AND sha256 IS NOT NULL)
BEGIN SELECT RAISE(ABORT, 'an artifact refers to a whole content'); END;

CREATE TRIGGER artifacts_refer AFTER INSERT ON artifacts
BEGIN UPDATE contents SET referred = referred + 1 WHERE key = NEW.content; END;

CREATE TRIGGER artifacts_let_go AFTER DELETE ON artifacts
BEGIN UPDATE contents SET referred = referred - 1 WHERE key = OLD.content; END;

-- An entry that is superseded takes its artifact off the list.
CREATE TRIGGER artifacts_superseded AFTER UPDATE OF superseded ON events WHEN NEW.kind = 'artifact'
BEGIN UPDATE artifacts SET superseded = 1 WHERE run = NEW.run AND position = NEW.position; END;
