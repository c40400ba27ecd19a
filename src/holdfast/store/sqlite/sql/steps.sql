-- What lives only as long as a step: places of long ones, streamed text.

-- name: cursor
SELECT cursor FROM cursors WHERE run = ? AND identity = ?;

-- name: gets_on
-- No crash before this one counts: a run that is not at the position of its claim has got on since.
UPDATE runs SET claimed_position = -1 WHERE key = ?1
    AND claimed_position = (SELECT position FROM live WHERE run = ?1);

-- name: put_cursor
INSERT INTO cursors (run, identity, args_hash, cursor, position, at_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (run, identity) DO UPDATE SET args_hash = ?3, cursor = ?4, position = ?5, at_us = ?6;

-- name: prune_cursors
DELETE FROM cursors WHERE rowid IN (SELECT rowid FROM cursors WHERE run = ?1 ORDER BY at_us DESC, rowid DESC LIMIT -1 OFFSET ?2);

-- name: forget_cursor
DELETE FROM cursors WHERE run = ? AND identity = ?;

-- name: cursors
SELECT identity, args_hash, cursor, position, at_us FROM cursors WHERE run = ? ORDER BY at_us, rowid;

-- name: put_output
INSERT INTO outputs (run, at_us, identity, start, text) VALUES (?, ?, ?, ?, ?);

-- name: prune_outputs
DELETE FROM outputs WHERE run = ?1 AND n <= (SELECT n FROM outputs WHERE run = ?1 ORDER BY n DESC LIMIT 1 OFFSET ?2);

-- name: outputs
SELECT n, at_us, identity, start, text FROM outputs WHERE run = ? AND n > ? ORDER BY n;
