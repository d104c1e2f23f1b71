"""What the guide to several hosts shows is valid, and does what it says."""

from __future__ import annotations

import re
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import compose_spec
import kubernetes_validate
import psycopg
import pytest
import yaml

from fleetops.cluster.database import upgrade
from tests.crash.rig import end_of

if TYPE_CHECKING:
    from tests.cluster.rig import ClusterRig
    from tests.cluster.server import PostgresServer

DOCS = Path(__file__).parents[2] / "docs"
FILES = DOCS / "cluster"
OLDEST_KUBERNETES = "1.31"


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FILES / "kubernetes.yaml").read_text(encoding="utf-8")))


@pytest.mark.parametrize("number", range(len(manifests())))
def test_the_kubernetes_manifests_are_as_their_schemas_want_them(number: int) -> None:
    assert kubernetes_validate.validate(manifests()[number], OLDEST_KUBERNETES, strict=True) == OLDEST_KUBERNETES


def test_a_kubernetes_manifest_with_a_mistake_is_found() -> None:
    (wrong,) = (one for one in manifests() if one["kind"] == "Deployment")
    wrong["spec"]["replica"] = wrong["spec"].pop("replicas")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, OLDEST_KUBERNETES, strict=True)


def test_the_compose_file_is_as_its_specification_wants_it() -> None:
    services = yaml.safe_load((FILES / "compose.yaml").read_text(encoding="utf-8"))
    made = compose_spec.PyCompose.from_yaml(yaml.safe_dump(services))
    made.validate()
    assert sorted(made.service_names()) == ["database", "operator", "tables", "worker"]
    services["services"]["worker"]["secrets"] = ["none"]
    with pytest.raises(Exception, match="none"):
        compose_spec.PyCompose.from_yaml(yaml.safe_dump(services)).validate()


def test_no_file_names_a_token_or_a_password() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in FILES.iterdir())
    assert "FLEETOPS_TOKEN" not in text
    assert not re.search(r"postgresql://[^@/\s]+:[^@/\s]+@", text)


def test_a_worker_gets_as_long_to_drain_as_it_may_take() -> None:
    (deployment,) = (one for one in manifests() if one["kind"] == "Deployment")
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > 120


def test_each_role_can_do_its_work_and_no_more(rig: ClusterRig, postgres: PostgresServer) -> None:
    rig.url = postgres.new_database(template="template1")
    name = rig.url.rpartition("/")[2]
    roles = (FILES / "roles.sql").read_text(encoding="utf-8")
    with psycopg.connect(rig.url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS fleetops_owner, fleetops_worker, fleetops_operator, fleetops_reader")
        connection.execute(roles)

    def as_role(role: str) -> str:
        return f"postgresql://fleetops_{role}@127.0.0.1:{postgres.port}/{name}"

    upgrade(as_role("owner"))
    with psycopg.connect(as_role("owner"), autocommit=True) as connection:
        connection.execute((FILES / "narrow.sql").read_text(encoding="utf-8"))
    rig.write(devices=10, rate=100)
    whole, rig.url = rig.url, as_role("operator")
    run_id = rig.submit("--chunk-devices=5")
    assert rig.command("pause", run_id).code == 0
    rig.start_worker(url=as_role("worker"))
    assert rig.command("continue", run_id).code == 0
    rig.url = as_role("reader")
    rig.wait_for_end(run_id)
    assert run_id in rig.command("runs").stdout
    assert rig.audit(run_id).breaches == []
    refused = rig.command("abort", run_id)
    assert refused.code == 7
    assert "permission denied" in refused.stderr
    for role, statement in (
        ("worker", "DELETE FROM result"),
        ("worker", "UPDATE step SET operation = 'factory'"),
        ("worker", "INSERT INTO run SELECT * FROM run"),
        ("operator", "DELETE FROM attempt"),
        ("operator", "INSERT INTO attempt SELECT * FROM attempt"),
        ("operator", "CREATE TABLE other ()"),
        ("reader", "UPDATE run SET paused = true"),
    ):
        with psycopg.connect(as_role(role)) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)
    rig.end_workers()
    with psycopg.connect(whole, autocommit=True) as connection:
        for role in ("owner", "worker", "operator", "reader"):
            connection.execute(f"DROP OWNED BY fleetops_{role} CASCADE")
            connection.execute(f"DROP ROLE fleetops_{role}")
    postgres.drop(whole)


def test_the_commands_of_the_guide_run_a_campaign(rig: ClusterRig) -> None:
    block = re.search(r"## Start\n\n```sh\n(.*?)```", (DOCS / "cluster.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    commands = [line.partition("#")[0].split() for line in block[1].splitlines() if line.startswith("fleetops ")]
    assert [command[1] for command in commands] == ["database", "worker", "run"]
    rig.write(devices=3, rate=100)
    shutil.copy(rig.folder / "manifest.csv", rig.folder / "night.csv")
    assert rig.command(*commands[0][1:]).code == 0
    worker = rig.start_worker(*commands[1][2:])
    ended = rig.command(*commands[2][1:], "--yes", "--settle=100ms")
    assert ended.code == 0, ended.stderr
    assert (rig.folder / "results.csv").read_text(encoding="utf-8").count(",accepted,") == 9
    worker.send_signal(signal.SIGTERM)
    assert end_of(worker).code == 0
