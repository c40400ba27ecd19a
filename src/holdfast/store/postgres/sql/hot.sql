-- What this store alone says: steps in one statement, and how a lost answer is found again.

-- name: record
-- The fence stands in `moved`, and in `writer`: a transaction whose answer was looked up already changes nothing.
WITH writer AS (
    UPDATE holdfast.writers SET n = n + 1, at_us = coalesce($3, holdfast.now_us()) WHERE id = $1 AND n = $2 RETURNING at_us
), moved AS (
    UPDATE holdfast.live SET position = live.position + move.entries, event_no = live.event_no + move.events,
        steps = live.steps + move.steps, step = move.step, reason = move.reason
    FROM writer, unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[], $10::bigint[],
                        $11::text[]) AS move (run, entries, events, steps, token, step, expected, reason)
    WHERE live.run = move.run AND live.token = move.token
        AND (move.expected IS NULL OR live.position = move.expected)
    RETURNING live.run, live.position - move.entries AS position, live.event_no - move.events AS event_no
), recorded AS (
    INSERT INTO holdfast.events (run, n, at_us, type, position, kind, status, segment, scope, name, key, occurrence,
                                 started_at_us, token, args_hash, signal, payload)
    SELECT moved.run, moved.event_no + event.n, writer.at_us, type, moved.position + event.position, kind, status, segment,
           scope, name, key, occurrence, started_at_us, token, args_hash, signal, payload
    FROM writer, moved JOIN unnest(
        $12::bigint[], $13::bigint[], $14::text[], $15::bigint[], $16::text[], $17::text[], $18::bigint[], $19::text[],
        $20::text[], $21::text[], $22::bigint[], $23::bigint[], $24::bigint[], $25::bytea[], $26::bigint[], $27::bytea[]
    ) AS event (run, n, type, position, kind, status, segment, scope, name, key, occurrence, started_at_us, token, args_hash,
                signal, payload) ON event.run = moved.run
){progressed}
SELECT writer.at_us, moved.run, moved.position, moved.event_no FROM writer LEFT JOIN moved ON true;

-- name: progressed
-- What `record` says more when a run reports progress: planned apart, for those are few.
, progressed AS (
    INSERT INTO holdfast.progress (run, current, total, description, phase, started_at_us, updated_at_us)
    SELECT moved.run, report.current, report.total, report.description, report.phase,
           CASE WHEN report.started_at_us > 0 THEN report.started_at_us ELSE coalesce(before.started_at_us, writer.at_us) END,
           writer.at_us
    FROM writer, moved JOIN unnest($28::bigint[], $29::float8[], $30::float8[], $31::text[], $32::text[], $33::bigint[])
        AS report (run, current, total, description, phase, started_at_us) ON report.run = moved.run
        LEFT JOIN holdfast.progress AS before ON before.run = moved.run
    ON CONFLICT (run) DO UPDATE SET current = excluded.current, total = excluded.total, phase = excluded.phase,
        description = excluded.description, started_at_us = excluded.started_at_us, updated_at_us = excluded.updated_at_us
);

-- name: register
-- A row for this writer; those that nobody has written with for a week are of processes that are gone.
WITH gone AS (
    DELETE FROM holdfast.writers WHERE at_us < holdfast.now_us() - 604800000000 AND id <> $1
)
INSERT INTO holdfast.writers (id, n, at_us) VALUES ($1, $2, holdfast.now_us()) ON CONFLICT (id) DO NOTHING;

-- name: look_up
-- How far the writer came. Waits for a transaction that is under way, and counts, so that one on its way changes nothing.
UPDATE holdfast.writers SET n = n + 1, at_us = holdfast.now_us() WHERE id = $1 RETURNING n;

-- name: now
SELECT holdfast.now_us();

-- name: recorded_at
-- What became of the last entry of a Change.
SELECT n, at_us FROM holdfast.events WHERE run = $1 AND n >= $2 AND position = $2 AND token = $3 ORDER BY n LIMIT 1;

-- name: live_at
SELECT position, event_no FROM holdfast.live WHERE run = $1 AND token = $2;
