from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.server import PostgresServer, programs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of the tests' own, started where the first test asks for it."""
    if programs() is None:
        pytest.skip("PostgreSQL is not installed: `apt-get install postgresql` has these tests run")
    with PostgresServer() as server:
        server.make_template()
        yield server


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    """A database of the test's own, with the tables of this version."""
    url = postgres.new_database()
    yield url
    postgres.drop(url)
