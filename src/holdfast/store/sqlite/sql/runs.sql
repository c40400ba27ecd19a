-- name: existing
SELECT agent, input_hash FROM runs WHERE id = ?;

-- name: insert_run
INSERT INTO runs (id, agent, version, queue, priority, state, reason, claimable, created_at_us, event_no, available_at_us,
                  deadline_at_us, input_hash, needs)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
RETURNING key;

-- name: insert_payloads
INSERT INTO run_payloads (run, input, input_blob) VALUES (?, ?, ?);

-- name: insert_tag
INSERT INTO tags (run, name, value) VALUES (?, ?, ?) ON CONFLICT (run, name) DO UPDATE SET value = excluded.value;

-- name: delete_tag
DELETE FROM tags WHERE run = ? AND name = ?;

-- name: tags_of
SELECT run, name, tags.value FROM tags JOIN json_each(?) AS wanted ON run = wanted.value ORDER BY run, name;

-- name: delete_run
DELETE FROM runs WHERE key = ? AND finished_at_us IS NOT NULL;

-- name: needed
SELECT 1 FROM runs_needed WHERE run = ?;

-- name: prunable
SELECT key FROM runs INDEXED BY runs_finished WHERE finished_at_us IS NOT NULL AND finished_at_us < ?
    AND NOT EXISTS (SELECT 1 FROM runs_needed WHERE run = runs.key)
ORDER BY finished_at_us LIMIT ?;

-- name: signal_by_dedup
SELECT n, name, at_us, payload, blob FROM signals WHERE run = ? AND dedup = ? AND dedup IS NOT NULL;

-- name: insert_signal
INSERT INTO signals (run, n, name, at_us, dedup, payload, blob) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: limit_queue
INSERT INTO queues (name, at_most) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET at_most = ?2;
