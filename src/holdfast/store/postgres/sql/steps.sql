-- What lives only as long as a step: places of long ones, streamed text.

-- name: cursor
SELECT cursor FROM holdfast.cursors WHERE run = $1 AND identity = $2;

-- name: gets_on
-- No crash before this one counts: a run that is not at the position of its claim has got on since.
UPDATE holdfast.runs SET claimed_position = -1 WHERE key = $1
    AND claimed_position = (SELECT position FROM holdfast.live WHERE run = $1);

-- name: put_cursor
INSERT INTO holdfast.cursors (run, identity, args_hash, cursor, position, at_us) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (run, identity) DO UPDATE SET args_hash = $3, cursor = $4, position = $5, at_us = $6;

-- name: prune_cursors
DELETE FROM holdfast.cursors WHERE seq IN (SELECT seq FROM holdfast.cursors WHERE run = $1 ORDER BY at_us DESC, seq DESC OFFSET $2);

-- name: forget_cursor
DELETE FROM holdfast.cursors WHERE run = $1 AND identity = $2;

-- name: cursors
SELECT identity, args_hash, cursor, position, at_us FROM holdfast.cursors WHERE run = $1 ORDER BY at_us, seq;

-- name: put_output
INSERT INTO holdfast.outputs (run, at_us, identity, start, text) VALUES ($1, $2, $3, $4, $5);

-- name: prune_outputs
DELETE FROM holdfast.outputs WHERE run = $1 AND n <= (SELECT n FROM holdfast.outputs WHERE run = $1 ORDER BY n DESC LIMIT 1 OFFSET $2);

-- name: outputs
SELECT n, at_us, identity, start, text FROM holdfast.outputs WHERE run = $1 AND n > $2 ORDER BY n;
