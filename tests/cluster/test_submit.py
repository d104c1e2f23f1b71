"""What is put into the database, and what stands in its way."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest

from fleetops.cluster.database import connected, conninfo, shown, upgrade
from fleetops.cluster.load import AttemptRow, ChunkRows, load_chunk, wait_for_strays
from fleetops.cluster.submit import submit
from fleetops.cluster.window import starts_ns
from fleetops.errors import JournalError, RunBusyError, UsageError
from fleetops.model import Operation, Reason
from fleetops.policy import Policy
from tests.cluster.kept import claim, do, new_worker, one, read
from tests.journal.runs import RUN_ID, S, new_run, rows

if TYPE_CHECKING:
    from tests.cluster.server import PostgresServer

OTHER = "20260102-030405-0001"


def test_every_step_is_there_once_with_its_note_and_its_carried_cells(database: str) -> None:
    new = new_run([("A\\B", Operation.SYNC, S), ("C", Operation.REBOOT, 2 * S), ("A\\B", Operation.RECONF, S)])
    new = replace(new, notes=["one\ttwo", "", "back\\slash\nline"], carried=iter(['["x"]', '["\\t"]', '["é"]']))
    assert submit(database, new, queue="default", devices_per_chunk=1) == 2
    with psycopg.connect(database) as connection:
        found = connection.execute(
            "SELECT step, serial, operation, settle_ns, note, carried FROM step "
            "JOIN device USING (run_id, chunk, device) ORDER BY step"
        ).fetchall()
    assert found == [
        (0, "A\\B", "sync", S, "one\ttwo", '["x"]'),
        (1, "C", "reboot", 2 * S, "", '["\\t"]'),
        (2, "A\\B", "reconf", S, "back\\slash\nline", '["é"]'),
    ]


def test_devices_that_are_left_out_have_their_result_already(database: str) -> None:
    submit(database, new_run(rows(3), skipped={1: Reason.EXCLUDED}), queue="default")
    assert one(database, "SELECT json_build_array(step, outcome, reason) FROM result") == [1, "skipped", "excluded"]
    assert one(database, "SELECT steps FROM tally") == 1


def test_another_live_run_on_the_control_plane_has_to_be_asked_for(database: str) -> None:
    submit(database, new_run(rows(3)), queue="default")
    other = new_run([("X", Operation.SYNC, S)], run_id=OTHER)
    with pytest.raises(RunBusyError, match="the two would share one rate"):
        submit(database, other, queue="default")
    submit(database, other, queue="default", alongside=True)
    elsewhere = new_run(rows(3), run_id="20260102-030405-0002", base_url="https://other.example")
    submit(database, elsewhere, queue="default")


def test_devices_of_a_live_run_are_refused_and_nothing_of_the_new_one_stays(database: str) -> None:
    submit(database, new_run(rows(5)), queue="default")
    other = new_run(rows(9), run_id=OTHER)
    with pytest.raises(RunBusyError, match="holds 5 of these devices: SN0000, SN0001, SN0002, "):
        submit(database, other, queue="default", alongside=True)
    assert one(database, "SELECT count(*) FROM run") == 1
    assert one(database, "SELECT count(*) FROM device") == 5


def test_a_device_settles_from_what_another_run_told_it(database: str) -> None:
    submit(database, new_run(rows(2, Operation.SYNC, 3600 * S)), queue="default")
    do(
        database,
        "INSERT INTO attempt (run_id, chunk, step, attempt, drive, worker, epoch, intent_ns, answered_ns, kind) "
        "VALUES (%s, 0, 0, 1, 1, 1, 1, now_ns(), now_ns(), 'accepted')",
        RUN_ID,
    )
    do(database, "UPDATE run SET ended_ns = 1")
    submit(database, new_run(rows(2), run_id=OTHER), queue="default")
    now_ns = one(database, "SELECT now_ns()")
    progress = read(database, OTHER, 0, Policy(), now_ns).progress
    assert list(progress.not_before_ns) == [0]
    assert 3500 * S < progress.not_before_ns[0] - now_ns <= 3600 * S


def test_a_run_starts_when_its_window_opens() -> None:
    policy = Policy.model_validate({"window": "02:00-05:00 UTC"})
    noon_ns = 1_767_355_200 * S
    assert starts_ns(policy, noon_ns, heed_window=True) == noon_ns + 14 * 3600 * S
    assert starts_ns(policy, noon_ns, heed_window=False) == noon_ns
    assert starts_ns(policy, noon_ns + 15 * 3600 * S, heed_window=True) == noon_ns + 15 * 3600 * S
    assert starts_ns(Policy(), noon_ns, heed_window=True) == noon_ns


def test_the_tables_are_made_once(database: str) -> None:
    assert upgrade(database) == []


def test_a_database_without_tables_is_told_of_in_words(postgres: PostgresServer) -> None:
    empty = postgres.new_database(template="template1")
    with pytest.raises(UsageError, match="has no tables of fleetops") as told, connected(empty) as connection:
        connection.execute("SELECT * FROM run")
    assert "fleetops database" in str(told.value.hint)
    assert len(upgrade(empty)) > 2
    postgres.drop(empty)


def test_a_database_that_cannot_be_reached_is_told_of_without_the_password() -> None:
    url = "postgresql://me:s3cret@127.0.0.1:1/none"
    with pytest.raises(JournalError, match=r"the database none at 127\.0\.0\.1 cannot be used") as told, connected(url):
        pass
    assert "s3cret" not in f"{told.value.message}{told.value.hint}"
    with pytest.raises(UsageError) as refused:
        conninfo("postgresql://me:s3cret@[")
    assert "s3cret" not in f"{refused.value.message}{refused.value.hint}"


def test_the_certificate_of_another_host_is_verified_unless_the_address_says_otherwise() -> None:
    assert "sslmode=verify-full" in conninfo("postgresql://db.example/fleetops")
    assert "sslrootcert=system" in conninfo("postgresql://db.example/fleetops")
    assert "verify-full" not in conninfo("postgresql://127.0.0.1/fleetops")
    assert "verify-full" not in conninfo("postgresql:///fleetops?host=/run/postgresql")
    assert "sslmode=require" in conninfo("postgresql://db.example/fleetops?sslmode=require")
    assert shown("postgresql://me:s3cret@db.example/fleetops") == "fleetops at db.example"


def test_a_device_whose_last_request_may_still_be_under_way_is_left_alone() -> None:
    policy = Policy.model_validate({"timeouts": {"connect": "1s", "read": "4s"}})
    lost = AttemptRow(7, 1, 100 * S, None, None, None, None)
    answered = AttemptRow(8, 1, 100 * S, 100 * S, 101 * S, "throttled", "throttled")
    chunk = ChunkRows([(3, "A", "", 0), (4, "B", "", 0)], [(7, 3, "sync", S), (8, 4, "sync", S)], [], [lost, answered])
    loaded = wait_for_strays(load_chunk(chunk, policy, now_ns=102 * S), chunk, policy)
    assert loaded.numbers.tolist() == [7, 8]
    assert list(loaded.progress.lost) == [0]
    assert loaded.progress.not_before_ns == {0: 106 * S}
    assert loaded.progress.disturbed_until_ns == {0: 103 * S}


def test_a_chunk_knows_the_devices_of_its_groups_that_other_waves_have(database: str) -> None:
    policy = Policy.model_validate({"group_cap": "50%", "waves": "2,100%"})
    submit(database, new_run(rows(6), policy, groups=["A"] * 6), queue="default", devices_per_chunk=2)
    worker = new_worker(database)
    assert claim(database, RUN_ID, 0, worker) == 1
    do(
        database,
        "INSERT INTO attempt (run_id, chunk, step, attempt, drive, worker, epoch, intent_ns, answered_ns, kind) "
        "SELECT run_id, chunk, step, 1, 1, 1, 1, 100, 100, 'accepted' FROM step WHERE chunk = 0 LIMIT 1",
    )
    loaded = read(database, RUN_ID, 1, policy, 50)
    assert len(loaded.numbers) == 4
    assert loaded.progress.outcomes == bytes(4) + bytes([5, 5])
    assert list(loaded.steps.groups) == ["A"] * 6, "its cap is a share of the whole group"
    assert list(loaded.progress.disturbed_until_ns.values()) == [100 + 10 * S]
    assert min(loaded.progress.disturbed_until_ns) >= 4, "it is none of its own"
