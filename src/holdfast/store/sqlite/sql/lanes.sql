-- Concurrency keys. The condition of the partial index is repeated word for word, or it is not used.

-- name: add
INSERT INTO lanes (run, key, at_most) VALUES (?, ?, ?);

-- name: lane_of
SELECT key, at_most, stands, place, due_at_us FROM lanes WHERE run = ?;

-- name: candidate
-- The lane of a run that may be claimed, and where it would stand.
SELECT lanes.key, at_most, stands, place, available_at_us, priority, state FROM lanes JOIN runs ON runs.key = lanes.run
WHERE run = ?;

-- name: running
SELECT count(*), min(at_most) FROM lanes INDEXED BY lanes_of_key
WHERE key = ? AND stands = 'running' AND stands <> 'apart';

-- name: called
SELECT count(*) FROM lanes INDEXED BY lanes_of_key WHERE key = ? AND stands = 'called' AND stands <> 'apart';

-- name: ahead
SELECT (SELECT count(*) FROM (
            SELECT 1 FROM lanes INDEXED BY lanes_of_key
            WHERE key = ?1 AND stands = 'called' AND stands <> 'apart' AND (place, run) < (?2, ?3) LIMIT ?4))
     + (SELECT count(*) FROM (
            SELECT 1 FROM lanes INDEXED BY lanes_of_key
            WHERE key = ?1 AND stands = 'in_line' AND stands <> 'apart' AND (place, run) < (?2, ?3) LIMIT ?4));

-- name: head
SELECT run, at_most, due_at_us FROM lanes INDEXED BY lanes_of_key
WHERE key = ? AND stands = 'in_line' AND stands <> 'apart' ORDER BY place, run LIMIT 1;

-- name: stand
UPDATE lanes SET stands = ?, place = ?, due_at_us = ?, called_at_us = NULL WHERE run = ?;

-- name: call
UPDATE lanes SET stands = 'called', called_at_us = ? WHERE run = ?;

-- name: longest_called
SELECT run, key, called_at_us FROM lanes INDEXED BY lanes_called WHERE called_at_us IS NOT NULL LIMIT ?;

-- name: alike
-- Those in the line of this key that are for the same workers as this run, which nobody took.
SELECT lanes.run, due_at_us FROM lanes JOIN runs ON runs.key = lanes.run
WHERE lanes.key = ? AND stands = 'in_line' AND stands <> 'apart'
    AND (agent, version, queue, needs) = (SELECT agent, version, queue, needs FROM runs WHERE key = ?)
ORDER BY place, lanes.run LIMIT ?;
