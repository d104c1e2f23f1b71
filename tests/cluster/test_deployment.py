"""What the guide to several hosts shows is valid, and does what it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import compose_spec
import jsonschema
import psycopg
import pytest
import yaml

from fleetops.cluster.database import upgrade
from fleetops.errors import HostError
from tests.cluster.server import programs
from tests.crash.rig import FLEETOPS

if TYPE_CHECKING:
    from tests.cluster.rig import ClusterRig
    from tests.cluster.server import PostgresServer

DOCS = Path(__file__).parents[2] / "docs"
FILES = DOCS / "cluster"
SCHEMAS: dict[str, Any] = json.loads(Path(__file__).with_name("kubernetes-1.31.json").read_text(encoding="utf-8"))
"""Of the oldest Kubernetes that the manifests are for."""


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FILES / "kubernetes.yaml").read_text(encoding="utf-8")))


def mistakes(manifest: dict[str, Any]) -> list[str]:
    """What the schema of its kind has against a manifest."""
    definition = SCHEMAS["kinds"][f"{manifest['apiVersion']} {manifest['kind']}"]
    schema = {"$defs": SCHEMAS["$defs"], "$ref": f"#/$defs/{definition}"}
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest)]


@pytest.mark.parametrize("number", range(len(manifests())))
def test_the_kubernetes_manifests_are_as_their_schemas_want_them(number: int) -> None:
    assert mistakes(manifests()[number]) == []


def test_mistakes_in_a_kubernetes_manifest_are_found() -> None:
    (wrong,) = (one for one in manifests() if one["kind"] == "Deployment")
    wrong["spec"]["replica"] = wrong["spec"].pop("replicas")
    wrong["spec"]["template"]["spec"]["containers"][0]["image"] = 5
    assert len(mistakes(wrong)) == 2


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


def remove_roles(url: str) -> None:
    """Remove the roles of the guide, which are the whole server's."""
    with psycopg.connect(url, autocommit=True) as connection:
        for role in ("owner", "worker", "operator", "reader"):
            connection.execute(f"DROP OWNED BY fleetops_{role} CASCADE")
            connection.execute(f"DROP ROLE fleetops_{role}")


def test_each_role_can_do_its_work_and_no_more(rig: ClusterRig, postgres: PostgresServer) -> None:
    rig.url = postgres.new_database(template="template1")
    name = rig.url.rpartition("/")[2]
    roles = (FILES / "roles.sql").read_text(encoding="utf-8")
    with psycopg.connect(rig.url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS fleetops_owner, fleetops_worker, fleetops_operator, fleetops_reader")
        connection.execute(roles)

    def as_role(role: str) -> str:
        return f"postgresql://fleetops_{role}@127.0.0.1:{postgres.port}/{name}"

    with pytest.raises(HostError, match="the role fleetops_operator may not create tables"):
        upgrade(as_role("operator"))
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
    remove_roles(whole)
    postgres.drop(whole)


def test_the_commands_of_the_guide_run_a_campaign(rig: ClusterRig, postgres: PostgresServer) -> None:
    start = (DOCS / "cluster.md").read_text(encoding="utf-8").partition("## Start\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", start, re.DOTALL)
    assert len(blocks) == 3
    name = f"guide{os.getpid()}"
    tables, work, operate = (
        re.sub(r"(createdb |-d |/)fleetops\b", rf"\g<1>{name}", one)
        .replace("database.example", f"127.0.0.1:{postgres.port}")
        .replace("~/", f"{rig.folder}/")
        for one in blocks
    )
    rig.write(devices=3, rate=100)
    shutil.copy(rig.folder / "manifest.csv", rig.folder / "night.csv")
    for file in FILES.glob("*.sql"):
        shutil.copy(file, rig.folder)
    token = rig.folder / ".fleetops-token"
    token.write_text("sandbox-token")
    token.chmod(0o600)
    path = f"{Path(FLEETOPS).parent}:{programs()}:{os.environ['PATH']}"
    environment = {
        **rig.environment(),
        "PATH": path,
        "PGHOST": "127.0.0.1",
        "PGPORT": str(postgres.port),
    }
    shell = ["bash", "-e", "-c"]
    whole = postgres.url.rpartition("/")[0] + f"/{name}"
    try:
        done = subprocess.run([*shell, tables], cwd=rig.folder, env=environment | {"PGUSER": "owner"}, check=False)
        assert done.returncode == 0
        worker = subprocess.Popen(
            [*shell, work.replace("fleetops worker", "exec fleetops worker")], cwd=rig.folder, env=environment
        )
        ended = subprocess.run(
            [*shell, operate.replace(" --cluster", " --yes --settle=100ms --cluster")],
            cwd=rig.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        assert "complete" in ended.stdout
        assert (rig.folder / "results.csv").read_text(encoding="utf-8").count(",accepted,") == 9
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
    finally:
        remove_roles(whole)
        postgres.drop(whole)
