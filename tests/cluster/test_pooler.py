"""Every command works by way of PgBouncer in transaction mode, where no statement has a session to rely on."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from fleetops.cluster.database import connected, upgrade
from fleetops.errors import JournalError
from tests.cluster.kept import one
from tests.cluster.pooler import Pooler, program
from tests.cluster.server import PostgresServer
from tests.crash.rig import end_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.rig import ClusterRig


@pytest.fixture(scope="module")
def pooler(postgres: PostgresServer) -> Iterator[Pooler]:
    if program() is None:
        pytest.skip("PgBouncer is not installed: `apt-get install pgbouncer` has this test run")
    with Pooler(postgres) as made:
        yield made


def warnings(rig: ClusterRig) -> list[dict[str, object]]:
    """What the workers of a rig said that is no news of the usual course."""
    return [line for number in range(len(rig.workers)) for line in rig.log(number) if line["level"] != "info"]


def test_a_campaign_is_submitted_run_by_two_workers_operated_and_reported_through_a_pooler(
    rig: ClusterRig, pooler: Pooler
) -> None:
    direct, rig.url = rig.url, pooler.url_of(rig.url)
    rig.write(devices=20, rate=5)
    rig.start_worker("--chunks=4")
    rig.start_worker("--chunks=4", "--behind-pooler")
    rig.wait_for("SELECT count(*) = 2 FROM worker")
    run_id = rig.submit("--chunk-devices=2")
    rig.wait_for_answers(5)
    for command in ("pause", "status", "continue", "pause"):
        assert rig.command(command, run_id).code == 0, command
    assert rig.command("rate", run_id, "100/s").code == 0
    assert rig.command("abort", run_id).code == 0
    rig.wait_for_end(run_id)
    resumed = rig.command("resume", run_id, f"--report={rig.report}", "--rate=100/s")
    assert resumed.code == 0, resumed.stderr
    assert rig.audit(run_id).breaches == []
    assert one(direct, "SELECT count(DISTINCT worker) FROM attempt") == 2
    assert warnings(rig) == []
    assert [rig.log(number)[0]["listens"] for number in range(2)] == [False, False]
    first, second = rig.workers
    second.send_signal(signal.SIGTERM)
    assert end_of(second).code == 0
    first.send_signal(signal.SIGTERM)
    assert end_of(first).code == 0


def test_the_tables_are_made_through_a_pooler(postgres: PostgresServer, pooler: Pooler) -> None:
    empty = postgres.new_database(template="template1")
    assert len(upgrade(pooler.url_of(empty))) > 2
    assert upgrade(pooler.url_of(empty)) == []
    assert one(empty, "SELECT count(*) FROM run") == 0
    postgres.drop(empty)


def test_settings_of_a_session_in_the_address_are_refused_with_a_word_on_where_they_go(
    rig: ClusterRig, pooler: Pooler
) -> None:
    url = f"{pooler.url_of(rig.url)}?options=-csearch_path%3Dops"
    with pytest.raises(JournalError, match="startup parameter") as refused, connected(url):
        pass
    assert "ALTER ROLE" in str(refused.value.hint)


def test_a_server_that_starts_anew_behind_the_pooler_is_waited_for(rig: ClusterRig) -> None:
    if program() is None:
        pytest.skip("PgBouncer is not installed: `apt-get install pgbouncer` has this test run")
    with ExitStack() as stack:
        server = stack.enter_context(PostgresServer(durable=True))
        server.make_template()
        rig.url = server.url
        pooled = stack.enter_context(Pooler(server)).url_of(server.url)
        stack.callback(rig.end_workers)
        rig.write(devices=25, rate=40)
        rig.start_worker(url=pooled)
        run_id = rig.submit()
        rig.wait_for_answers(15)
        server.stop(signal.SIGKILL)
        server.start()
        rig.wait_for_end(run_id)
        assert rig.audit(run_id).breaches == []
