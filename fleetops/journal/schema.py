"""What a run's journal file holds. One SQLite file a run, so that runs neither slow nor damage each other.

All times are integers, nanoseconds since the epoch, in the frame of the process that wrote them (see
`process.wall_minus_boot_ns`).
"""

from __future__ import annotations

from typing import Final

SCHEMA_VERSION: Final = 1
APPLICATION_ID: Final = 0x666C6F70
"""Marks the file as a fleetops journal (`flop` in ASCII)."""

TABLES: Final = """
CREATE TABLE run (                  -- what the run is, one row a fact
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE process (              -- each process that drove the run: the first, then every resume
    process            INTEGER PRIMARY KEY,
    pid                INTEGER NOT NULL,
    version            TEXT NOT NULL,
    boot_id            TEXT NOT NULL,      -- of the host, so that clock steps can be told from time passing
    wall_minus_boot_ns INTEGER NOT NULL,   -- the wall clock less the time since boot, when it started
    started_ns         INTEGER NOT NULL,
    policy             TEXT NOT NULL,      -- the policy it ran with, as JSON
    ended_ns           INTEGER,            -- NULL: it runs, or it died
    end_reason         TEXT,
    end_detail         TEXT NOT NULL DEFAULT ''
);

CREATE TABLE device (
    device INTEGER PRIMARY KEY,
    serial TEXT NOT NULL,
    grp    TEXT NOT NULL
);

CREATE TABLE step (                 -- step i is row i + 1 of the manifest
    step      INTEGER PRIMARY KEY,
    device    INTEGER NOT NULL REFERENCES device,
    operation TEXT NOT NULL,
    settle_ns INTEGER NOT NULL,
    note      TEXT NOT NULL,
    carried   TEXT NOT NULL          -- the manifest's other cells, a JSON list in the order of run.carried_columns
);

CREATE TABLE attempt (              -- a row before each send; what came of it is filled in afterwards
    step         INTEGER NOT NULL REFERENCES step,
    attempt      INTEGER NOT NULL,
    process      INTEGER NOT NULL REFERENCES process,
    intent_ns    INTEGER NOT NULL,
    sent_ns      INTEGER,
    answered_ns  INTEGER,            -- NULL: no answer was recorded; it may have run
    kind         TEXT,
    reason       TEXT,
    http_status  INTEGER,
    operation_id TEXT,
    detail       TEXT,
    PRIMARY KEY (step, attempt)
) WITHOUT ROWID;

CREATE TABLE result (               -- a row once a step has its outcome; steps without one are open
    step        INTEGER PRIMARY KEY REFERENCES step,
    outcome     TEXT NOT NULL,
    reason      TEXT,
    finished_ns INTEGER NOT NULL,
    process     INTEGER REFERENCES process   -- NULL: decided before the first process
);

CREATE TABLE event (                -- what happened to the run as a whole: waves, gates, pauses, outages
    at_ns   INTEGER NOT NULL,
    process INTEGER NOT NULL REFERENCES process,
    event   TEXT NOT NULL,
    detail  TEXT NOT NULL
);

CREATE TABLE command (              -- what the operator asked of a live run from another terminal
    command  INTEGER PRIMARY KEY,
    asked_ns INTEGER NOT NULL,       -- by the wall clock
    action   TEXT NOT NULL,          -- pause, continue, abort, rate
    argument TEXT NOT NULL
);

CREATE TABLE evidence (             -- what was found out about a step after its run, and what follows from it
    step     INTEGER NOT NULL REFERENCES step,
    at_ns    INTEGER NOT NULL,       -- by the wall clock
    found    TEXT NOT NULL,          -- what the inventory showed, or who decided and why
    before   TEXT NOT NULL,          -- the outcome that the step had
    after    TEXT NOT NULL           -- the outcome that it has from now on
);
"""
