from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from fleetops.errors import JournalError, RunBusyError
from fleetops.journal import StateDir, claim_devices
from fleetops.model import Operation, Outcome
from fleetops.policy import Policy
from fleetops.policy.pacing import longest_attempt_ns
from tests.journal.runs import ACCEPTED, BASE_URL, LOST, UNREACHABLE, S, create, new_run, open_store, state_dir
from tests.journal.test_store import DAMAGE, T0, Clock, empty, of_another_program, send

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleetops.model import Reply

OTHER = "20260101-000000-0001"
MINE = "20260101-000000-0002"
STEPS = [("A", Operation.SYNC, 100 * S), ("B", Operation.SYNC, 100 * S)]


def claim(
    state: StateDir,
    now_ns: int,
    devices: dict[str, int] | None = None,
    *,
    base_url: str = BASE_URL,
    clock: Clock | None = None,
    alongside: bool = False,
) -> dict[int, int]:
    wanted = {"B": 0, "A": 1} if devices is None else devices
    return claim_devices(state, MINE, base_url, lambda: wanted, clock or Clock(), now_ns=now_ns, alongside=alongside)


def other_run(state: StateDir, reply: Reply | None = ACCEPTED, outcome: Outcome | None = Outcome.ACCEPTED) -> None:
    """A run that sent a step to A at `T0` and died."""
    create(state, new_run(STEPS, run_id=OTHER))
    store = open_store(state, OTHER, Clock())
    send(store.begin(Policy(), now_ns=T0), 0, reply, T0, outcome)
    store.close()


def test_a_device_that_settles_from_another_run_is_not_sent_to_before(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    other_run(state)
    assert claim(state, T0 + 40 * S) == {1: T0 + 100 * S}
    assert claim(state, T0 + 100 * S) == {}


@pytest.mark.parametrize(("reply", "left"), [(LOST, {1: T0 + 100 * S}), (UNREACHABLE, {})])
def test_what_may_have_run_disturbs_a_device_also_where_its_step_is_open(
    tmp_path: Path, reply: Reply, left: dict[int, int]
) -> None:
    state = state_dir(tmp_path)
    other_run(state, reply, None)
    assert claim(state, T0 + 50 * S) == left


def test_an_attempt_without_an_answer_is_reckoned_from_when_it_was_over_at_the_latest(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    other_run(state, None, None)
    over_ns = T0 + longest_attempt_ns(Policy())
    assert claim(state, over_ns - S) == {1: over_ns + 99 * S}
    assert claim(state, over_ns + 60 * S) == {1: over_ns + 100 * S}
    assert claim(state, over_ns + 100 * S) == {}


def test_settling_is_told_in_the_terms_of_the_clock_of_whoever_asks(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    other_run(state)
    ahead = Clock(wall_minus_boot_ns=T0 + 3600 * S)
    assert claim(state, T0 + 3640 * S, clock=ahead) == {1: T0 + 3700 * S}


def test_devices_of_another_control_plane_are_other_devices(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    other_run(state)
    assert claim(state, T0 + 40 * S, base_url="https://elsewhere.example/api/v1") == {}
    lock = state.lock_run(OTHER)
    assert claim(state, T0 + 40 * S, base_url="https://elsewhere.example/api/v1") == {}
    lock.release()


def test_a_run_does_not_stand_in_its_own_way(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    create(state, new_run(STEPS, run_id=MINE))
    lock = state.lock_run(MINE)
    assert claim(state, T0) == {}
    lock.release()


def test_a_live_run_holds_the_devices_that_it_is_not_done_with(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    other_run(state)
    lock = state.lock_run(OTHER)
    with pytest.raises(RunBusyError, match="holds 1 of these devices: B"):
        claim(state, T0 + 40 * S, alongside=True)
    with pytest.raises(RunBusyError, match="two runs add up their rates"):
        claim(state, T0 + 40 * S, {"A": 0})
    assert claim(state, T0 + 40 * S, {"A": 0}, alongside=True) == {0: T0 + 100 * S}
    lock.release()


def test_the_first_of_many_shared_devices_are_named(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    create(state, new_run([(name, Operation.SYNC, 1) for name in "EDCBA"], run_id=OTHER))
    lock = state.lock_run(OTHER)
    with pytest.raises(RunBusyError, match=r"holds 5 of these devices: A, B, C, \.\.\."):
        claim(state, T0, {name: device for device, name in enumerate("ABCDE")})
    lock.release()


@pytest.mark.parametrize("damage", [*DAMAGE, lambda path: path.unlink()])
def test_the_damaged_journal_of_a_dead_run_keeps_nobody_from_starting(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    state = state_dir(tmp_path)
    other_run(state)
    damage(state.journal_path(OTHER))
    assert claim(state, T0 + 40 * S) in ({}, {1: T0 + 100 * S})


@pytest.mark.parametrize("damage", [empty, of_another_program])
def test_the_damaged_journal_of_a_live_run_does(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    state = state_dir(tmp_path)
    other_run(state)
    damage(state.journal_path(OTHER))
    lock = state.lock_run(OTHER)
    with pytest.raises(JournalError, match="is live, but its journal cannot be read"):
        claim(state, T0, alongside=True)
    lock.release()


def test_a_settle_time_that_a_resume_made_longer_counts_towards_other_runs(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    settle_ns = Policy().settle.sync_ns
    create(state, new_run([("A", Operation.SYNC, settle_ns)], run_id=OTHER))
    store = open_store(state, OTHER, Clock())
    longer = Policy.model_validate({"settle": {"sync": "2h"}})
    with store.changing(None, lambda _: longer):
        pass
    send(store.begin(longer, now_ns=T0), 0, ACCEPTED, T0, Outcome.ACCEPTED)
    store.close()
    assert claim(state, T0 + 3600 * S) == {1: T0 + 7200 * S}


def test_many_old_runs_neither_make_a_start_slow_nor_get_files_that_nobody_clears_away(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    template = create(state, new_run(STEPS, run_id=OTHER)).read_bytes()
    for number in range(300):
        state.journal_path(f"20250101-000000-{number:04x}").write_bytes(template)
    began_s = time.process_time()
    assert claim(state, T0) == {}
    assert time.process_time() - began_s < 1.5
    assert len(list(state.runs.iterdir())) == 301
