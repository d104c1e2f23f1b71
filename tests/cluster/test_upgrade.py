"""A database of an earlier version goes on being used, with the runs that are in it."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

import psycopg
import yoyo
from procrastinate.schema import SchemaManager

from fleetops.cluster.database import _backend, upgrade
from fleetops.cluster.follow import glance, offer
from fleetops.policy import Policy
from fleetops.sandbox import SandboxConfig, sandbox_thread
from tests.cluster.kept import one
from tests.cluster.within import Fleet, devices
from tests.journal.runs import RUN_ID, new_run

if TYPE_CHECKING:
    from tests.cluster.server import PostgresServer


def _make_as_of(url: str, last: str) -> None:
    """The tables as they were once this migration had been the last."""
    backend = _backend(url)
    with closing(backend.connection), as_file(files("fleetops.cluster").joinpath("migrations")) as ours:
        backend.init_database()
        for folder in (SchemaManager.get_migrations_path(), str(ours)):
            wanted = backend.to_apply(yoyo.read_migrations(folder))
            if folder == str(ours):
                wanted = wanted.filter(lambda migration: migration.id <= last)
            backend.apply_migrations(wanted)


def _run_of_old(url: str, base_url: str, devices_: int) -> None:
    """A run that has sent half of its steps, as the first version wrote it; the service had cut its rate."""
    policy = Policy.model_validate({"rate": "80/s"})
    new = new_run(devices(devices_), policy, base_url=base_url)
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO run (run_id, facts, base_url, policy, queue, heed_window, devices, steps, starts_ns, drive, "
            "wave, waves) VALUES (%s, %s, %s, %s, 'default', true, %s, %s, 0, 1, 0, 1)",
            (RUN_ID, json.dumps(asdict(new.facts)), base_url, policy.to_json(), devices_, devices_),
        )
        connection.execute(
            "INSERT INTO drive (run_id, drive, version, started_ns, policy) VALUES (%s, 1, '0', 1, '')", (RUN_ID,)
        )
        connection.execute(
            "INSERT INTO gate (run_id, asked_per_s, per_s, burst, hold_ns, slots) VALUES (%s, 80, 40, 0, 7, 5)",
            (RUN_ID,),
        )
        connection.execute(
            "INSERT INTO chunk (run_id, chunk, wave, devices, steps) VALUES (%s, 0, 0, %s, %s)",
            (RUN_ID, devices_, devices_),
        )
        for number, serial in enumerate(new.steps.serials):
            connection.execute("INSERT INTO device VALUES (%s, 0, %s, %s, '', 0)", (RUN_ID, number, serial))
            connection.execute("INSERT INTO step VALUES (%s, 0, %s, %s, 'sync', 0, '', '[]')", (RUN_ID, number, number))
            if number % 2:
                connection.execute("INSERT INTO result VALUES (%s, 0, %s, 'accepted', NULL, 1, 1)", (RUN_ID, number))


def test_a_run_goes_on_after_the_tables_were_upgraded(postgres: PostgresServer) -> None:
    url = postgres.new_database(template="template1")
    _make_as_of(url, "0002-functions")
    with sandbox_thread(SandboxConfig(devices=20)) as (base_url, _):
        _run_of_old(url, base_url, 10)
        assert upgrade(url) == ["0003-one-gate-a-control-plane"]
        assert glance(url, RUN_ID).per_s == 40
        assert one(url, "SELECT json_build_array(hold_ns, slots) FROM gate WHERE base_url = %s", base_url) == [7, 5]
        fleet = Fleet(url, base_url)
        offer(url, RUN_ID)
        fleet.work()
        assert fleet.ended_as() == ("complete", "")
        assert fleet.outcomes() == {"accepted": 10}
        assert fleet.value("SELECT count(*) FROM attempt") == 5
    postgres.drop(url)
