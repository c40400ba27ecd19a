-- What an attempt records. The fence (law 2 of the protocol) stands in the statement that moves the counters.

-- name: advance
UPDATE live SET position = position + ?, event_no = event_no + ?, steps = steps + ?, step = ?
WHERE run = ? AND token = ? AND position = ?
RETURNING position, event_no, reason, run;

-- name: advance_notes
UPDATE live SET event_no = event_no + ?, step = ?
WHERE run = ? AND token = ?
RETURNING position, event_no, reason, run;

-- name: set_reason
UPDATE live SET reason = ? WHERE run = ?;

-- name: insert_event
INSERT INTO events (run, n, at_us, type, position, kind, status, segment, scope, name, key, occurrence, started_at_us,
                    token, args_hash, signal, payload, blob)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_note
INSERT INTO events (run, n, at_us, type, payload, blob) VALUES (?, ?, ?, ?, ?, ?);

-- name: fence
SELECT state, token, position FROM run_rows WHERE key = ?;

-- name: consume_signal
UPDATE signals SET consumed = ? WHERE run = ? AND n = ? AND consumed IS NULL;

-- name: upsert_progress
INSERT INTO progress (run, current, total, description, phase, started_at_us, updated_at_us)
VALUES (?1, ?2, ?3, ?4, ?5, iif(?6 > 0, ?6, ?7), ?7)
ON CONFLICT (run) DO UPDATE SET
    current = ?2, total = ?3, description = ?4, phase = ?5,
    started_at_us = iif(?6 > 0, ?6, started_at_us), updated_at_us = ?7;

-- name: insert_checkpoint
INSERT INTO checkpoints (run, n, segment, name, at_us, event_no, keep, now_us, state, sha256, size_bytes, encoding)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_turns
INSERT INTO checkpoint_turns (run, n, turns) VALUES (?, ?, ?);

-- name: count_checkpoint
UPDATE live SET checkpoint_n = checkpoint_n + 1, event_no = event_no + 1 WHERE run = ? RETURNING checkpoint_n, event_no;

-- name: count_event
UPDATE live SET event_no = event_no + 1 WHERE run = ? RETURNING event_no;

-- name: tail_start
-- What the segment recorded before its state was saved, as when an attempt fails, is tail too.
SELECT coalesce(min(n) - 1, ?3) FROM events
WHERE run = ?1 AND position IS NOT NULL AND segment >= ?2
  AND n > coalesce((SELECT max(event_no) FROM checkpoints WHERE run = ?1 AND segment < ?2), 0);

-- name: prune_checkpoints
DELETE FROM checkpoints WHERE run = ?1 AND name IS NULL AND n NOT IN (
    SELECT n FROM checkpoints WHERE run = ?1 AND name IS NULL ORDER BY n DESC LIMIT ?2);

