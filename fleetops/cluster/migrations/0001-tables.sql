-- What runs on several hosts share. All times are integers, nanoseconds since the epoch by the clock of this database.

CREATE FUNCTION now_ns() RETURNS bigint LANGUAGE sql VOLATILE
AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000 $$;

CREATE TABLE run (                       -- what a run is, and how it stands as a whole
    run_id      text PRIMARY KEY,
    facts       text NOT NULL,           -- JSON, as in a journal on one host
    base_url    text NOT NULL,
    policy      text NOT NULL,           -- JSON
    queue       text NOT NULL,           -- of the workers that may take its chunks
    heed_window boolean NOT NULL,
    devices     integer NOT NULL,
    steps       integer NOT NULL,
    starts_ns   bigint NOT NULL,         -- no chunk is handed out before
    drive       integer NOT NULL,        -- counts the start and every resume
    wave        integer NOT NULL,        -- the last one that was let in, from 0
    waves       integer NOT NULL,
    judge_ns    bigint,                  -- when the wave that is done has soaked; NULL while it is not done
    gate_failed boolean NOT NULL DEFAULT false,   -- paused by the gate of a wave: to continue lets the next one in
    paused      boolean NOT NULL DEFAULT false,
    stop_reason text,                    -- nothing more is sent
    stop_detail text NOT NULL DEFAULT '',
    ended_ns    bigint,                  -- NULL: it is live
    counted     text NOT NULL DEFAULT '[]'        -- the tallies that its budgets do not count: of before the last resume
);

CREATE TABLE drive (                     -- the start of a run, then every resume
    run_id     text NOT NULL REFERENCES run ON DELETE CASCADE,
    drive      integer NOT NULL,
    version    text NOT NULL,
    started_ns bigint NOT NULL,
    policy     text NOT NULL,
    ended_ns   bigint,
    end_reason text,
    end_detail text NOT NULL DEFAULT '',
    PRIMARY KEY (run_id, drive)
);

CREATE TABLE worker (                    -- a process that runs chunks; its lease is that of all its chunks
    worker     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    host       text NOT NULL,
    pid        integer NOT NULL,
    version    text NOT NULL,
    queue      text NOT NULL,
    started_ns bigint NOT NULL,
    lease_ns   bigint NOT NULL,          -- once that is over, others may take its chunks
    draining   boolean NOT NULL DEFAULT false,
    sends      bigint NOT NULL DEFAULT 0
);

CREATE TABLE chunk (                     -- devices, each with its whole sequence, that one worker at a time runs
    run_id  text NOT NULL REFERENCES run ON DELETE CASCADE,
    chunk   integer NOT NULL,
    wave    integer NOT NULL,
    devices integer NOT NULL,
    steps   integer NOT NULL,
    state   text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'shut')),   -- shut: its window closed
    worker  bigint REFERENCES worker ON DELETE SET NULL,
    epoch   integer NOT NULL DEFAULT 0,  -- the fence: counts the holders; what an earlier one writes is refused
    batch   bigint NOT NULL DEFAULT 0,   -- of this holder: a batch that is written twice counts once
    PRIMARY KEY (run_id, chunk)
);
CREATE INDEX chunk_worker ON chunk (worker, run_id) WHERE worker IS NOT NULL;
CREATE INDEX chunk_held ON chunk (run_id, worker) WHERE worker IS NOT NULL;

CREATE TABLE device (
    run_id        text NOT NULL REFERENCES run ON DELETE CASCADE,
    chunk         integer NOT NULL,
    device        integer NOT NULL,
    serial        text NOT NULL,
    grp           text NOT NULL,
    not_before_ns bigint NOT NULL        -- when it will have settled from what another run told it; 0 where it has
);

CREATE TABLE step (                      -- step i is row i + 1 of the manifest
    run_id    text NOT NULL REFERENCES run ON DELETE CASCADE,
    chunk     integer NOT NULL,
    step      integer NOT NULL,
    device    integer NOT NULL,
    operation text NOT NULL,
    settle_ns bigint NOT NULL,
    note      text NOT NULL,
    carried   text NOT NULL
);

-- The chunk comes first in the keys: what a worker reads and writes lies together.
ALTER TABLE device ADD PRIMARY KEY (run_id, chunk, device);
ALTER TABLE step ADD PRIMARY KEY (run_id, chunk, step);
CREATE INDEX device_group ON device (run_id, grp) WHERE grp <> '';

CREATE TABLE attempt (                   -- a row before each send; what came of it is filled in afterwards
    run_id       text NOT NULL REFERENCES run ON DELETE CASCADE,
    chunk        integer NOT NULL,
    step         integer NOT NULL,
    attempt      integer NOT NULL,
    drive        integer NOT NULL,
    worker       bigint NOT NULL,
    epoch        integer NOT NULL,
    intent_ns    bigint NOT NULL,
    sent_ns      bigint,
    answered_ns  bigint,                 -- NULL: no answer was recorded; it may have run
    kind         text,
    reason       text,
    http_status  integer,
    operation_id text,
    detail       text,
    PRIMARY KEY (run_id, chunk, step, attempt)
);

CREATE TABLE result (                    -- a row once a step has its outcome; steps without one are open
    run_id      text NOT NULL REFERENCES run ON DELETE CASCADE,
    chunk       integer NOT NULL,
    step        integer NOT NULL,
    outcome     text NOT NULL,
    reason      text,
    finished_ns bigint NOT NULL,
    drive       integer,                 -- NULL: decided before the run
    PRIMARY KEY (run_id, chunk, step)
);
CREATE INDEX result_bad ON result (run_id, finished_ns) WHERE outcome IN ('failed', 'unknown');

CREATE TABLE tally (                     -- results counted by chunk, so that no worker waits for another's count
    run_id    text NOT NULL REFERENCES run ON DELETE CASCADE,
    chunk     integer NOT NULL,
    operation smallint NOT NULL,
    outcome   text NOT NULL,
    steps     bigint NOT NULL,
    last_ns   bigint NOT NULL,
    PRIMARY KEY (run_id, chunk, operation, outcome)
);

CREATE TABLE event (                     -- what happened to a run as a whole
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id   text NOT NULL REFERENCES run ON DELETE CASCADE,
    at_ns    bigint NOT NULL,
    drive    integer NOT NULL,
    event    text NOT NULL,
    detail   text NOT NULL
);
CREATE INDEX event_run ON event (run_id, at_ns);

CREATE TABLE command (                   -- what an operator asked for, and who
    command  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id   text NOT NULL REFERENCES run ON DELETE CASCADE,
    asked_ns bigint NOT NULL,
    action   text NOT NULL,
    argument text NOT NULL,
    asked_by text NOT NULL
);
CREATE INDEX command_run ON command (run_id);

CREATE TABLE evidence (                  -- what was found out about a step after its run
    run_id text NOT NULL REFERENCES run ON DELETE CASCADE,
    step   integer NOT NULL,
    at_ns  bigint NOT NULL,
    found  text NOT NULL,
    before text NOT NULL,
    after  text NOT NULL
);
CREATE INDEX evidence_run ON evidence (run_id);

CREATE TABLE gate (                      -- the one rate of a run, whatever the number of its workers
    run_id          text PRIMARY KEY REFERENCES run ON DELETE CASCADE,
    asked_per_s     double precision NOT NULL,
    per_s           double precision NOT NULL,
    burst           integer NOT NULL,
    next_ns         bigint NOT NULL DEFAULT 0,    -- the next slot that is free
    clock_ns        bigint NOT NULL DEFAULT 0,    -- the largest bound on how wrong a worker's clock may be
    hold_ns         bigint NOT NULL DEFAULT 0,    -- no sends before
    cut_ns          bigint NOT NULL DEFAULT 0,    -- when the rate was last cut
    looked_ns       bigint NOT NULL DEFAULT 0,
    outage_since_ns bigint,                       -- the service is down: one request at a time
    outage_until_ns bigint,                       -- when the next one may be tried
    slots           bigint NOT NULL DEFAULT 0     -- that were given out
) WITH (fillfactor = 50);
