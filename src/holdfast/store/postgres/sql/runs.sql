-- name: existing
SELECT agent, input_hash FROM holdfast.runs WHERE id = $1;

-- name: insert_run
INSERT INTO holdfast.runs (id, agent, version, queue, priority, state, reason, claimable, created_at_us, event_no, available_at_us,
                  deadline_at_us, input_hash, needs)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
RETURNING key;

-- name: insert_payloads
INSERT INTO holdfast.run_payloads (run, input, input_blob) VALUES ($1, $2, $3);

-- name: insert_tag
INSERT INTO holdfast.tags (run, name, value) VALUES ($1, $2, $3) ON CONFLICT (run, name) DO UPDATE SET value = excluded.value;

-- name: delete_tag
DELETE FROM holdfast.tags WHERE run = $1 AND name = $2;

-- name: tags_of
SELECT run, name, tags.value FROM holdfast.tags JOIN jsonb_array_elements_text($1::jsonb) AS wanted ON run = wanted.value::bigint ORDER BY run, name;

-- name: delete_run
DELETE FROM holdfast.runs WHERE key = $1 AND finished_at_us IS NOT NULL;

-- name: needed
SELECT 1 FROM holdfast.runs_needed WHERE run = $1;

-- name: prunable
SELECT key FROM holdfast.runs WHERE finished_at_us IS NOT NULL AND finished_at_us < $1
    AND NOT EXISTS (SELECT 1 FROM holdfast.runs_needed WHERE run = runs.key)
ORDER BY finished_at_us LIMIT greatest($2, 0);

-- name: signal_by_dedup
SELECT n, name, at_us, payload, blob FROM holdfast.signals WHERE run = $1 AND dedup = $2 AND dedup IS NOT NULL;

-- name: insert_signal
INSERT INTO holdfast.signals (run, n, name, at_us, dedup, payload, blob) VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: limit_queue
INSERT INTO holdfast.queues (name, at_most) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET at_most = $2;
