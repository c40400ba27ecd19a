-- What runs all day, as functions: the server keeps their statements planned wherever they are called, also behind a pooler,
-- and to plan them takes longer than to do them.

-- The steps of any number of runs. The fence stands in `moved`, and in the row of the writer: a transaction whose answer was
-- looked up already changes nothing, and returns nothing.
CREATE FUNCTION holdfast.record(
    the_writer text, written bigint, given_us bigint,
    runs bigint[], entries bigint[], more_events bigint[], outcomes bigint[], tokens bigint[], at_steps text[],
    expected bigint[], reasons text[],
    of_runs bigint[], numbers bigint[], types text[], positions bigint[], kinds text[], statuses text[], segments bigint[],
    scopes text[], names text[], keys text[], occurrences bigint[], began_us bigint[], of_tokens bigint[], hashes bytea[],
    of_signals bigint[], payloads bytea[],
    told_runs bigint[], currents float8[], totals float8[], descriptions text[], phases text[], told_began_us bigint[]
) RETURNS TABLE (now_us bigint, moved_run bigint, from_position bigint, from_event bigint) LANGUAGE plpgsql AS $$
DECLARE
    moved_runs bigint[];
    moved_positions bigint[];
    moved_events bigint[];
BEGIN
    UPDATE holdfast.writers SET n = n + 1, at_us = coalesce(given_us, holdfast.now_us())
    WHERE id = the_writer AND n = written RETURNING at_us INTO now_us;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    WITH moved AS (
        UPDATE holdfast.live SET position = live.position + move.entries, event_no = live.event_no + move.events,
            steps = live.steps + move.outcomes, step = move.step, reason = move.reason
        FROM unnest(runs, entries, more_events, outcomes, tokens, at_steps, expected, reasons)
            AS move (run, entries, events, outcomes, token, step, expected, reason)
        WHERE live.run = move.run AND live.token = move.token
            AND (move.expected IS NULL OR live.position = move.expected)
        RETURNING live.run, live.position - move.entries AS position, live.event_no - move.events AS event_no
    ), recorded AS (
        INSERT INTO holdfast.events (run, n, at_us, type, position, kind, status, segment, scope, name, key, occurrence,
                                     started_at_us, token, args_hash, signal, payload)
        SELECT moved.run, moved.event_no + event.n, now_us, type, moved.position + event.position, kind, status, segment,
               scope, name, key, occurrence, started_at_us, token, args_hash, signal, payload
        FROM moved JOIN unnest(of_runs, numbers, types, positions, kinds, statuses, segments, scopes, names, keys,
                               occurrences, began_us, of_tokens, hashes, of_signals, payloads)
            AS event (run, n, type, position, kind, status, segment, scope, name, key, occurrence, started_at_us, token,
                      args_hash, signal, payload) ON event.run = moved.run
    )
    SELECT array_agg(moved.run), array_agg(moved.position), array_agg(moved.event_no)
    INTO moved_runs, moved_positions, moved_events FROM moved;
    IF cardinality(told_runs) > 0 THEN
        INSERT INTO holdfast.progress (run, current, total, description, phase, started_at_us, updated_at_us)
        SELECT report.run, report.current, report.total, report.description, report.phase,
               CASE WHEN report.began_us > 0 THEN report.began_us ELSE coalesce(before.started_at_us, now_us) END, now_us
        FROM unnest(told_runs, currents, totals, descriptions, phases, told_began_us)
            AS report (run, current, total, description, phase, began_us)
            LEFT JOIN holdfast.progress AS before ON before.run = report.run
        WHERE report.run = ANY (moved_runs)
        ON CONFLICT (run) DO UPDATE SET current = excluded.current, total = excluded.total, phase = excluded.phase,
            description = excluded.description, started_at_us = excluded.started_at_us,
            updated_at_us = excluded.updated_at_us;
    END IF;
    RETURN QUERY SELECT now_us, moved.run, moved.position, moved.event_no
        FROM (SELECT 1) AS always LEFT JOIN unnest(moved_runs, moved_positions, moved_events)
            AS moved (run, position, event_no) ON true;
END $$;

-- A step by itself, which is what a run alone in its worker does all day.
CREATE FUNCTION holdfast.record_step(
    the_writer text, written bigint, given_us bigint, the_run bigint, the_token bigint, expected bigint, outcomes bigint,
    the_step text, the_reason text, the_type text, the_kind text, the_status text, the_segment bigint, the_scope text,
    the_name text, the_key text, the_occurrence bigint, began_us bigint, the_hash bytea, the_payload bytea,
    OUT now_us bigint, OUT event bigint
) LANGUAGE plpgsql AS $$
BEGIN
    UPDATE holdfast.writers SET n = n + 1, at_us = coalesce(given_us, holdfast.now_us())
    WHERE id = the_writer AND n = written RETURNING at_us INTO now_us;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE holdfast.live SET position = position + 1, event_no = event_no + 1, steps = steps + outcomes,
        step = the_step, reason = the_reason
    WHERE run = the_run AND token = the_token AND position = expected RETURNING event_no INTO event;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    INSERT INTO holdfast.events (run, n, at_us, type, position, kind, status, segment, scope, name, key, occurrence,
                                 started_at_us, token, args_hash, payload)
    VALUES (the_run, event, now_us, the_type, expected + 1, the_kind, the_status, the_segment, the_scope, the_name, the_key,
            the_occurrence, began_us, the_token, the_hash, the_payload);
END $$;
