"""The database's clock as another host reads it."""

from __future__ import annotations

import pytest

from fleetops.cluster.clock import DatabaseClock
from fleetops.cluster.lease import LEASE_NS, Lease
from fleetops.errors import UsageError
from fleetops.journal.clock import since_boot_ns
from tests.journal.runs import S

MS = 1_000_000
YEAR_NS = 365 * 24 * 3600 * S


def test_the_offset_is_known_as_well_as_the_answer_was_quick() -> None:
    clock = DatabaseClock()
    boot_ns = since_boot_ns()
    clock.measured(boot_ns - 200 * MS, boot_ns + YEAR_NS, boot_ns)
    assert 100 * MS <= clock.bound_ns < 120 * MS
    clock.measured(boot_ns - 4 * MS, boot_ns + YEAR_NS - MS, boot_ns)
    assert 2 * MS <= clock.bound_ns < 10 * MS
    assert 0 < clock.now_ns() - boot_ns - YEAR_NS - MS < 100 * MS


def test_a_worse_measurement_does_not_replace_a_better_one() -> None:
    clock = DatabaseClock()
    boot_ns = since_boot_ns()
    clock.measured(boot_ns, boot_ns + YEAR_NS, boot_ns + 2 * MS)
    clock.measured(boot_ns, boot_ns + YEAR_NS + 50 * MS, boot_ns + 200 * MS)
    assert clock.bound_ns < 2 * MS
    assert not clock.stepped


def test_time_never_goes_back_within_a_process() -> None:
    clock = DatabaseClock()
    boot_ns = since_boot_ns()
    clock.measured(boot_ns, boot_ns + YEAR_NS + 500 * MS, boot_ns + 600 * MS)
    before_ns = clock.now_ns()
    clock.measured(boot_ns, boot_ns + YEAR_NS, boot_ns + 2 * MS)
    assert clock.now_ns() >= before_ns


def test_a_database_whose_clock_was_set_is_noticed() -> None:
    clock = DatabaseClock()
    boot_ns = since_boot_ns()
    clock.measured(boot_ns, boot_ns + YEAR_NS, boot_ns + 2 * MS)
    clock.measured(boot_ns, boot_ns + YEAR_NS - 3600 * S, boot_ns + 2 * MS)
    assert clock.stepped


def test_a_lease_is_over_for_its_holder_before_it_is_over_for_others() -> None:
    lease = Lease()
    assert not lease.lasts(0)
    lease.renewed(100 * S)
    assert lease.lasts(100 * S)
    assert not lease.lasts(100 * S + LEASE_NS - S)


@pytest.mark.parametrize("lasts_ns", [2 * S, 13 * S])
def test_a_lease_that_no_run_could_live_with_is_refused(lasts_ns: int) -> None:
    with pytest.raises(UsageError, match=f"a lease of {lasts_ns // S}s is none that works"):
        Lease(lasts_ns)
