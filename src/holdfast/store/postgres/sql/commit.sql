-- What an attempt records. The fence (law 2 of the protocol) stands in the statement that moves the counters.

-- name: advance
UPDATE holdfast.live SET position = position + $1, event_no = event_no + $2, steps = steps + $3, step = $4
WHERE run = $5 AND token = $6 AND position = $7
RETURNING position, event_no, reason, run;

-- name: advance_notes
UPDATE holdfast.live SET event_no = event_no + $1, step = $2
WHERE run = $3 AND token = $4
RETURNING position, event_no, reason, run;

-- name: set_reason
UPDATE holdfast.live SET reason = $1 WHERE run = $2;

-- name: insert_event
INSERT INTO holdfast.events (run, n, at_us, type, position, kind, status, segment, scope, name, key, occurrence, started_at_us,
                    token, args_hash, signal, payload, blob)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18);

-- name: insert_note
INSERT INTO holdfast.events (run, n, at_us, type, payload, blob) VALUES ($1, $2, $3, $4, $5, $6);

-- name: fence
SELECT state, token, position FROM holdfast.run_rows WHERE key = $1;

-- name: consume_signal
UPDATE holdfast.signals SET consumed = $1 WHERE run = $2 AND n = $3 AND consumed IS NULL;

-- name: upsert_progress
INSERT INTO holdfast.progress (run, current, total, description, phase, started_at_us, updated_at_us)
VALUES ($1, $2, $3, $4, $5, CASE WHEN $6 > 0 THEN $6 ELSE $7 END, $7)
ON CONFLICT (run) DO UPDATE SET
    current = $2, total = $3, description = $4, phase = $5,
    started_at_us = CASE WHEN $6 > 0 THEN $6 ELSE progress.started_at_us END, updated_at_us = $7;

-- name: insert_checkpoint
INSERT INTO holdfast.checkpoints (run, n, segment, name, at_us, event_no, keep, now_us, state, sha256, size_bytes, encoding)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

-- name: insert_turns
INSERT INTO holdfast.checkpoint_turns (run, n, turns) VALUES ($1, $2, $3);

-- name: count_checkpoint
UPDATE holdfast.live SET checkpoint_n = checkpoint_n + 1, event_no = event_no + 1 WHERE run = $1 RETURNING checkpoint_n, event_no;

-- name: count_event
UPDATE holdfast.live SET event_no = event_no + 1 WHERE run = $1 RETURNING event_no;

-- name: tail_start
-- What the segment recorded before its state was saved, as when an attempt fails, is tail too.
SELECT coalesce(min(n) - 1, $3) FROM holdfast.events
WHERE run = $1 AND position IS NOT NULL AND segment >= $2
  AND n > coalesce((SELECT max(event_no) FROM holdfast.checkpoints WHERE run = $1 AND segment < $2), 0);

-- name: prune_checkpoints
DELETE FROM holdfast.checkpoints WHERE run = $1 AND name IS NULL AND n NOT IN (
    SELECT n FROM holdfast.checkpoints WHERE run = $1 AND name IS NULL ORDER BY n DESC LIMIT greatest($2, 0));

