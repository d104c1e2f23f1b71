-- What has to be one transaction is one function: a statement each, which needs no session behind a pooler.

-- The service throttles: every run on that control plane holds.
CREATE FUNCTION hold_all(p_run text, p_until_ns bigint) RETURNS void LANGUAGE sql AS $$
    UPDATE gate g SET hold_ns = greatest(g.hold_ns, p_until_ns)
    FROM run r, run mine
    WHERE mine.run_id = p_run AND r.base_url = mine.base_url AND r.ended_ns IS NULL AND g.run_id = r.run_id;
$$;

-- The service throttles: the rate of a run falls, once for all answers of one volley.
CREATE FUNCTION cut_rate(p_run text, p_cut double precision, p_floor double precision, p_apart_ns bigint)
RETURNS void LANGUAGE sql AS $$
    UPDATE gate SET per_s = greatest(per_s * p_cut, asked_per_s * p_floor), cut_ns = now_ns(), looked_ns = now_ns()
    WHERE run_id = p_run AND cut_ns + p_apart_ns <= now_ns();
$$;

CREATE FUNCTION write_chunk(
    p_run text, p_chunk integer, p_worker bigint, p_epoch integer, p_batch bigint, p_drive integer,
    p_hold_ns bigint,
    w_step integer[], w_attempt integer[],
    a_step integer[], a_attempt integer[], a_sent bigint[], a_answered bigint[], a_kind text[], a_reason text[],
    a_status integer[], a_operation text[], a_detail text[],
    r_step integer[], r_outcome text[], r_reason text[], r_finished bigint[],
    t_operation integer[], t_outcome text[], t_steps integer[], t_last bigint[],
    e_at bigint[], e_event text[], e_detail text[],
    i_step integer[], i_attempt integer[], i_ns bigint[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    written bigint;
BEGIN
    SELECT batch INTO written FROM chunk
    WHERE run_id = p_run AND chunk = p_chunk AND worker = p_worker AND epoch = p_epoch FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease on chunk % was lost', p_chunk USING ERRCODE = 'FL001';
    END IF;
    IF written >= p_batch THEN
        RETURN;  -- its commit was not heard of, and it is told again
    END IF;
    UPDATE chunk SET batch = p_batch WHERE run_id = p_run AND chunk = p_chunk;
    IF cardinality(w_step) > 0 THEN
        DELETE FROM attempt a USING unnest(w_step, w_attempt) AS w(step, attempt)
        WHERE a.run_id = p_run AND a.chunk = p_chunk AND a.step = w.step AND a.attempt = w.attempt
          AND a.answered_ns IS NULL;
    END IF;
    IF cardinality(a_step) > 0 THEN
        UPDATE attempt a
        SET sent_ns = n.sent, answered_ns = n.answered, kind = n.kind, reason = n.reason, http_status = n.status,
            operation_id = n.operation, detail = n.detail
        FROM unnest(a_step, a_attempt, a_sent, a_answered, a_kind, a_reason, a_status, a_operation, a_detail)
             AS n(step, attempt, sent, answered, kind, reason, status, operation, detail)
        WHERE a.run_id = p_run AND a.chunk = p_chunk AND a.step = n.step AND a.attempt = n.attempt;
    END IF;
    IF cardinality(r_step) > 0 THEN
        INSERT INTO result (run_id, chunk, step, outcome, reason, finished_ns, drive)
        SELECT DISTINCT ON (n.step) p_run, p_chunk, n.step, n.outcome, n.reason, n.finished, p_drive
        FROM unnest(r_step, r_outcome, r_reason, r_finished) WITH ORDINALITY
             AS n(step, outcome, reason, finished, nth)
        ORDER BY n.step, n.nth DESC
        ON CONFLICT (run_id, chunk, step) DO UPDATE
        SET outcome = excluded.outcome, reason = excluded.reason, finished_ns = excluded.finished_ns,
            drive = excluded.drive;
        INSERT INTO tally AS t (run_id, chunk, operation, outcome, steps, last_ns)
        SELECT p_run, p_chunk, n.operation, n.outcome, n.steps, n.last
        FROM unnest(t_operation, t_outcome, t_steps, t_last) AS n(operation, outcome, steps, last)
        ON CONFLICT (run_id, chunk, operation, outcome) DO UPDATE
        SET steps = t.steps + excluded.steps, last_ns = greatest(t.last_ns, excluded.last_ns);
    END IF;
    IF p_hold_ns > 0 THEN
        PERFORM hold_all(p_run, p_hold_ns);
    END IF;
    IF cardinality(e_at) > 0 THEN
        INSERT INTO event (run_id, at_ns, drive, event, detail)
        SELECT p_run, n.at, p_drive, n.event, n.detail FROM unnest(e_at, e_event, e_detail) AS n(at, event, detail);
    END IF;
    IF cardinality(i_step) > 0 THEN
        INSERT INTO attempt (run_id, chunk, step, attempt, drive, worker, epoch, intent_ns)
        SELECT p_run, p_chunk, n.step, n.attempt, p_drive, p_worker, p_epoch, n.ns
        FROM unnest(i_step, i_attempt, i_ns) AS n(step, attempt, ns);
    END IF;
END $$;

-- A worker takes a chunk: the number of its hold on it, NULL where it may not have it.
CREATE FUNCTION claim_chunk(p_run text, p_chunk integer, p_worker bigint) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    holder bigint;
    wanted integer;
    taken integer;
BEGIN
    SELECT c.worker, c.wave INTO holder, wanted FROM chunk c
    WHERE c.run_id = p_run AND c.chunk = p_chunk AND c.state = 'open' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF holder IS NOT NULL AND holder <> p_worker THEN
        -- Locked, so that a holder which comes back at this moment learns of its loss before it sends again.
        PERFORM 1 FROM worker w WHERE w.worker = holder FOR UPDATE;
        PERFORM 1 FROM worker w WHERE w.worker = holder AND w.lease_ns > now_ns();
        IF FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    PERFORM 1 FROM run r WHERE r.run_id = p_run AND r.ended_ns IS NULL AND r.stop_reason IS NULL
                           AND r.starts_ns <= now_ns() AND r.wave >= wanted;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    UPDATE chunk c SET worker = p_worker, epoch = c.epoch + 1, batch = 0
    WHERE c.run_id = p_run AND c.chunk = p_chunk RETURNING c.epoch INTO taken;
    RETURN taken;
END $$;

-- A worker asks for slots, and learns how the run stands. Slots are moments, a worker's own from p_first on.
CREATE FUNCTION reserve_slots(
    p_run text, p_want integer, p_clock_ns bigint, p_spread_ns bigint, p_ahead_ns bigint, p_lead_ns bigint,
    p_raise double precision, p_probe_ns bigint,
    OUT at_ns bigint, OUT first_ns bigint, OUT granted integer, OUT interval_ns double precision,
    OUT asked_per_s double precision, OUT per_s double precision, OUT hold_ns bigint,
    OUT outage_since_ns bigint, OUT outage_until_ns bigint,
    OUT paused boolean, OUT stop_reason text, OUT stop_detail text, OUT ended boolean, OUT workers integer
) LANGUAGE plpgsql AS $$
DECLARE
    g gate%ROWTYPE;
    r run%ROWTYPE;
    rate double precision;
BEGIN
    granted := 0;
    first_ns := 0;
    SELECT * INTO g FROM gate WHERE gate.run_id = p_run;
    IF g.next_ns > now_ns() + p_lead_ns THEN
        p_want := 0;  -- others have all there is for now: neither they nor the disk are kept waiting
    END IF;
    IF p_want > 0 THEN
        SELECT * INTO g FROM gate WHERE gate.run_id = p_run FOR UPDATE;
    END IF;
    SELECT * INTO r FROM run WHERE run.run_id = p_run;
    SELECT count(DISTINCT c.worker) INTO workers FROM chunk c JOIN worker w ON w.worker = c.worker
    WHERE c.run_id = p_run AND c.worker IS NOT NULL AND w.lease_ns > now_ns();
    at_ns := now_ns();
    rate := g.per_s;
    IF p_want > 0 THEN
        IF rate < g.asked_per_s AND at_ns - greatest(g.looked_ns, g.hold_ns) >= 1000000000 THEN
            rate := least(g.asked_per_s,
                          rate + g.asked_per_s * p_raise * (at_ns - greatest(g.looked_ns, g.hold_ns)) / 1e9);
            g.looked_ns := at_ns;
        END IF;
        g.clock_ns := greatest(g.clock_ns, p_clock_ns);
        interval_ns := 1e9 / rate * (1 + (p_spread_ns + 2 * g.clock_ns) / 1e9);
        IF r.stop_reason IS NULL AND NOT r.paused AND r.ended_ns IS NULL AND at_ns >= g.hold_ns
           AND (g.outage_until_ns IS NULL OR at_ns >= g.outage_until_ns) THEN
            first_ns := greatest(g.next_ns, at_ns + p_ahead_ns - (g.burst * interval_ns)::bigint);
            IF g.outage_until_ns IS NOT NULL THEN
                p_want := 1;
            END IF;
            granted := greatest(0, least(p_want, floor((at_ns + p_lead_ns - first_ns) / interval_ns)::integer + 1));
            IF granted > 0 THEN
                g.next_ns := first_ns + ceil(granted * interval_ns)::bigint;
                IF g.outage_until_ns IS NOT NULL THEN
                    g.outage_until_ns := at_ns + p_probe_ns;
                END IF;
            END IF;
        END IF;
        UPDATE gate SET per_s = rate, looked_ns = g.looked_ns, clock_ns = g.clock_ns, next_ns = g.next_ns,
                        outage_until_ns = g.outage_until_ns, slots = gate.slots + granted
        WHERE gate.run_id = p_run;
    ELSE
        interval_ns := 1e9 / rate;
    END IF;
    asked_per_s := g.asked_per_s;
    per_s := rate;
    hold_ns := g.hold_ns;
    outage_since_ns := g.outage_since_ns;
    outage_until_ns := g.outage_until_ns;
    paused := r.paused;
    stop_reason := r.stop_reason;
    stop_detail := r.stop_detail;
    ended := r.ended_ns IS NOT NULL;
END $$;

-- The tallies of a run, counted anew from its results.
CREATE FUNCTION count_again(p_run text) RETURNS void LANGUAGE sql AS $$
    DELETE FROM tally WHERE run_id = p_run;
    INSERT INTO tally (run_id, chunk, operation, outcome, steps, last_ns)
    SELECT r.run_id, r.chunk, array_position(ARRAY['reboot', 'factory', 'device_factory', 'sync', 'reconf'], s.operation) - 1,
           CASE WHEN r.outcome = 'accepted' AND r.reason = 'not_confirmed' THEN 'not_confirmed' ELSE r.outcome END,
           count(*), max(r.finished_ns)
    FROM result r JOIN step s USING (run_id, chunk, step) WHERE r.run_id = p_run GROUP BY 1, 2, 3, 4;
$$;
