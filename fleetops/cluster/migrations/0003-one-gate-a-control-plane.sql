-- The rate is kept for a control plane, whatever the number of runs that go through to it: a row each. What a run asks for
-- beneath that is its pace.

ALTER TABLE gate RENAME TO pace;
ALTER INDEX gate_pkey RENAME TO pace_pkey;
ALTER TABLE pace RENAME COLUMN next_ns TO last_ns;       -- the last slot that it had a right to
ALTER TABLE pace ADD COLUMN throttled_since_ns bigint;   -- the service has answered nothing but 429 since

CREATE TABLE gate (                      -- the one rate towards a control plane
    base_url  text PRIMARY KEY,
    share     double precision NOT NULL DEFAULT 1,      -- what 429s have left of the rate
    last_ns   bigint NOT NULL DEFAULT 0,                -- the last slot that was given out
    spare     bigint[] NOT NULL DEFAULT '{}',           -- slots before it that runs of a lower rate have passed over
    clock_ns  bigint NOT NULL DEFAULT 0,                -- the largest bound, of late, on how wrong a worker's clock may be
    clocked_ns bigint NOT NULL DEFAULT 0,               -- when that was told
    hold_ns   bigint NOT NULL DEFAULT 0,                -- no sends before
    cut_ns    bigint NOT NULL DEFAULT 0,                -- when the rate was last cut
    looked_ns bigint NOT NULL DEFAULT 0,
    slots     bigint NOT NULL DEFAULT 0                 -- that were given out
) WITH (fillfactor = 50);

INSERT INTO gate (base_url, share, last_ns, hold_ns, cut_ns, looked_ns, slots)
SELECT r.base_url, min(least(1, p.per_s / p.asked_per_s)), max(p.last_ns), max(p.hold_ns), max(p.cut_ns),
       max(p.looked_ns), sum(p.slots)
FROM pace p JOIN run r USING (run_id) GROUP BY r.base_url;

ALTER TABLE pace DROP COLUMN per_s, DROP COLUMN clock_ns, DROP COLUMN hold_ns, DROP COLUMN cut_ns,
                 DROP COLUMN looked_ns, DROP COLUMN slots;
CREATE INDEX run_live ON run (base_url) WHERE ended_ns IS NULL;

-- The service throttles: everything that goes to that control plane holds.
CREATE OR REPLACE FUNCTION hold_all(p_run text, p_until_ns bigint) RETURNS void LANGUAGE sql AS $$
    UPDATE gate g SET hold_ns = greatest(g.hold_ns, p_until_ns) FROM run r
    WHERE r.run_id = p_run AND g.base_url = r.base_url;
$$;

-- The service throttles: the rate falls, once for all answers of one volley.
CREATE OR REPLACE FUNCTION cut_rate(p_run text, p_cut double precision, p_floor double precision, p_apart_ns bigint)
RETURNS void LANGUAGE sql AS $$
    UPDATE gate g SET share = greatest(g.share * p_cut, p_floor), cut_ns = now_ns(), looked_ns = now_ns() FROM run r
    WHERE r.run_id = p_run AND g.base_url = r.base_url AND g.cut_ns + p_apart_ns <= now_ns();
$$;

-- Slots for a run: the first of those that there are which its own rate lets it have. The control plane's are p_gate_ns
-- apart, one after another from p_next_ns on, and those in p_spare. Of its own a run has one each p_run_ns, from p_due_ns
-- on; one that comes late, since the control plane's do not fall together with them, moves the next by less than p_gate_ns.
CREATE FUNCTION choose_slots(
    p_want integer, p_until_ns bigint, p_gate_ns bigint, p_run_ns bigint, p_due_ns bigint, p_next_ns bigint,
    p_spare bigint[],
    OUT taken bigint[], OUT due_ns bigint, OUT next_ns bigint, OUT spare bigint[]
) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    moment bigint;
    passed bigint;
BEGIN
    taken := '{}';
    spare := '{}';
    due_ns := p_due_ns;
    next_ns := p_next_ns;
    FOREACH moment IN ARRAY p_spare LOOP
        IF cardinality(taken) < p_want AND due_ns <= moment AND moment <= p_until_ns THEN
            taken := taken || moment;
            due_ns := greatest(due_ns + p_run_ns, moment + p_run_ns - p_gate_ns);
        ELSE
            spare := spare || moment;
        END IF;
    END LOOP;
    WHILE cardinality(taken) < p_want LOOP
        passed := greatest(0, (due_ns - next_ns + p_gate_ns - 1) / p_gate_ns);
        moment := next_ns + passed * p_gate_ns;
        EXIT WHEN moment > p_until_ns;
        WHILE next_ns < moment LOOP
            spare := spare || next_ns;
            next_ns := next_ns + p_gate_ns;
        END LOOP;
        taken := taken || moment;
        next_ns := moment + p_gate_ns;
        due_ns := greatest(due_ns + p_run_ns, moment + p_run_ns - p_gate_ns);
    END LOOP;
END $$;

DROP FUNCTION reserve_slots;

-- A worker asks for slots for a run, and learns how it stands. Slots are moments, a worker's own once it has them.
CREATE FUNCTION reserve_slots(
    p_run text, p_want integer, p_clock_ns bigint, p_spread_ns bigint, p_ahead_ns bigint, p_lead_ns bigint,
    p_raise double precision, p_probe_ns bigint,
    OUT at_ns bigint, OUT moments bigint[], OUT asked_per_s double precision, OUT per_s double precision,
    OUT gate_per_s double precision, OUT hold_ns bigint,
    OUT outage_since_ns bigint, OUT outage_until_ns bigint, OUT throttled_since_ns bigint,
    OUT paused boolean, OUT stop_reason text, OUT stop_detail text, OUT ended boolean, OUT workers integer
) LANGUAGE plpgsql AS $$
DECLARE
    r run%ROWTYPE;
    g gate%ROWTYPE;
    p pace%ROWTYPE;
    most_per_s double precision;
    burst integer;
    a_second double precision;
    gate_ns bigint;
    run_ns bigint;
    found_slots record;
BEGIN
    moments := '{}';
    SELECT * INTO r FROM run WHERE run.run_id = p_run;
    SELECT * INTO g FROM gate WHERE gate.base_url = r.base_url;
    SELECT * INTO p FROM pace WHERE pace.run_id = p_run;
    -- The rates of runs that share a control plane do not add up: it is sent to as fast as the fastest of them asks.
    SELECT max(o.asked_per_s), max(o.burst) INTO most_per_s, burst FROM run l JOIN pace o USING (run_id)
    WHERE l.base_url = r.base_url AND l.ended_ns IS NULL
      AND (l.run_id = p_run OR (l.stop_reason IS NULL AND NOT l.paused AND l.starts_ns <= now_ns()));
    most_per_s := coalesce(most_per_s, p.asked_per_s);
    IF p.last_ns + 1e9 / (p.asked_per_s * g.share) > now_ns() + p_lead_ns
       OR (g.last_ns + 1e9 / (most_per_s * g.share) > now_ns() + p_lead_ns AND g.spare = '{}') THEN
        p_want := 0;  -- others have all there is for now: neither they nor the disk are kept waiting
    END IF;
    IF p_want > 0 THEN
        SELECT * INTO g FROM gate WHERE gate.base_url = r.base_url FOR UPDATE;
        SELECT * INTO p FROM pace WHERE pace.run_id = p_run FOR UPDATE;
        SELECT * INTO r FROM run WHERE run.run_id = p_run;
    END IF;
    SELECT count(DISTINCT c.worker) INTO workers FROM chunk c JOIN worker w ON w.worker = c.worker
    WHERE c.run_id = p_run AND c.worker IS NOT NULL AND w.lease_ns > now_ns();
    at_ns := now_ns();
    IF p_want > 0 THEN
        IF g.share < 1 AND at_ns - greatest(g.looked_ns, g.hold_ns) >= 1000000000 THEN
            g.share := least(1, g.share + p_raise * (at_ns - greatest(g.looked_ns, g.hold_ns)) / 1e9);
            g.looked_ns := at_ns;
        END IF;
        IF p_clock_ns >= g.clock_ns OR at_ns > g.clocked_ns + 2000000000 THEN
            g.clock_ns := p_clock_ns;
            g.clocked_ns := at_ns;
        END IF;
        IF r.stop_reason IS NULL AND NOT r.paused AND r.ended_ns IS NULL AND at_ns >= g.hold_ns
           AND (p.outage_until_ns IS NULL OR at_ns >= p.outage_until_ns) THEN
            IF p.outage_until_ns IS NOT NULL THEN
                p_want := 1;
            END IF;
            a_second := 1e9 + p_spread_ns + 2 * g.clock_ns;
            gate_ns := ceil(a_second / (most_per_s * g.share));
            run_ns := greatest(gate_ns, ceil(a_second / (p.asked_per_s * g.share)));
            SELECT * INTO found_slots FROM choose_slots(
                p_want, at_ns + p_lead_ns, gate_ns, run_ns,
                greatest(p.last_ns + run_ns, at_ns + p_ahead_ns - p.burst * run_ns),
                greatest(g.last_ns + gate_ns, at_ns + p_ahead_ns - burst * gate_ns),
                ARRAY(SELECT s FROM unnest(g.spare) s WHERE s >= at_ns + p_ahead_ns - burst * gate_ns ORDER BY s));
            moments := found_slots.taken;
            IF cardinality(moments) > 0 THEN
                g.last_ns := found_slots.next_ns - gate_ns;
                g.spare := found_slots.spare;
                p.last_ns := found_slots.due_ns - run_ns;
                IF p.outage_until_ns IS NOT NULL THEN
                    p.outage_until_ns := at_ns + p_probe_ns;
                END IF;
            END IF;
        END IF;
        UPDATE gate SET share = g.share, looked_ns = g.looked_ns, clock_ns = g.clock_ns, clocked_ns = g.clocked_ns,
                        last_ns = g.last_ns, spare = g.spare, slots = gate.slots + cardinality(moments)
        WHERE gate.base_url = g.base_url;
        UPDATE pace SET last_ns = p.last_ns, outage_until_ns = p.outage_until_ns WHERE pace.run_id = p_run;
    END IF;
    asked_per_s := p.asked_per_s;
    per_s := p.asked_per_s * g.share;
    gate_per_s := most_per_s * g.share;
    hold_ns := g.hold_ns;
    outage_since_ns := p.outage_since_ns;
    outage_until_ns := p.outage_until_ns;
    throttled_since_ns := p.throttled_since_ns;
    paused := r.paused;
    stop_reason := r.stop_reason;
    stop_detail := r.stop_detail;
    ended := r.ended_ns IS NOT NULL;
END $$;
