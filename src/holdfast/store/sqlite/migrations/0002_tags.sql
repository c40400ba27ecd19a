-- What people call their runs by, besides the id: `customer=7`, or a word alone, whose value is ''.

CREATE TABLE tags (
    run   INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    name  TEXT    NOT NULL,
    value TEXT    NOT NULL,
    PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX tags_named ON tags (name, value, run);
