-- Concurrency keys. The condition of the partial index is repeated word for word, or it is not used.

-- name: add
INSERT INTO holdfast.lanes (run, key, at_most) VALUES ($1, $2, $3);

-- name: lane_of
SELECT key, at_most, stands, place, due_at_us FROM holdfast.lanes WHERE run = $1;

-- name: candidate
-- The lane of a run that may be claimed, and where it would stand.
SELECT lanes.key, at_most, stands, place, available_at_us, priority, state FROM holdfast.lanes JOIN holdfast.runs ON runs.key = lanes.run
WHERE run = $1;

-- name: running
SELECT count(*), min(at_most) FROM holdfast.lanes
WHERE key = $1 AND stands = 'running' AND stands <> 'apart';

-- name: called
SELECT count(*) FROM holdfast.lanes WHERE key = $1 AND stands = 'called' AND stands <> 'apart';

-- name: ahead
SELECT (SELECT count(*) FROM (
            SELECT 1 FROM holdfast.lanes
            WHERE key = $1 AND stands = 'called' AND stands <> 'apart' AND (place, run) < ($2, $3) LIMIT greatest($4, 0)))
     + (SELECT count(*) FROM (
            SELECT 1 FROM holdfast.lanes
            WHERE key = $1 AND stands = 'in_line' AND stands <> 'apart' AND (place, run) < ($2, $3) LIMIT greatest($4, 0)));

-- name: head
SELECT run, at_most, due_at_us FROM holdfast.lanes
WHERE key = $1 AND stands = 'in_line' AND stands <> 'apart' ORDER BY place, run LIMIT 1;

-- name: stand
UPDATE holdfast.lanes SET stands = $1, place = $2, due_at_us = $3, called_at_us = NULL WHERE run = $4;

-- name: call
UPDATE holdfast.lanes SET stands = 'called', called_at_us = $1 WHERE run = $2;

-- name: longest_called
SELECT run, key, called_at_us FROM holdfast.lanes WHERE called_at_us IS NOT NULL LIMIT greatest($1, 0);

-- name: alike
-- Those in the line of this key that are for the same workers as this run, which nobody took.
SELECT lanes.run, due_at_us FROM holdfast.lanes JOIN holdfast.runs ON runs.key = lanes.run
WHERE lanes.key = $1 AND stands = 'in_line' AND stands <> 'apart'
    AND (agent, version, queue, needs) = (SELECT agent, version, queue, needs FROM holdfast.runs WHERE key = $2)
ORDER BY place, lanes.run LIMIT greatest($3, 0);
