from __future__ import annotations

import os
import pwd
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import anyio
import pytest

from fleetops.control import Device, DeviceFilter
from fleetops.errors import RunBusyError, UsageError
from fleetops.journal import NewRun, RunFacts, StateDir, create_journal
from fleetops.journal.evidence import UnknownStep
from fleetops.journal.views import RunView
from fleetops.model import NS_PER_S, Operation, Outcome, Reason, Steps
from fleetops.policy import DEFAULTS
from fleetops.reconcile import Assumption, assume, judge, reconcile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SENT = 1_800_000_000 * NS_PER_S
USUAL = 300 * NS_PER_S
RUN_ID = "20270115-080000-abcd"


def step(*, followed: bool = False) -> UnknownStep:
    return UnknownStep(0, "AB1", Operation.REBOOT, 180 * NS_PER_S, SENT, followed)


def device(after_s: float | None, *, up: bool = True) -> Device:
    changed_ns = None if after_s is None else SENT + round(after_s * NS_PER_S)
    return Device(serial_number="AB1", status=up, last_status_change_ns=changed_ns)


@pytest.mark.parametrize(
    ("seen", "followed", "outcome", "words"),
    [
        (device(100), False, Outcome.CONFIRMED, "it went down and came back"),
        (device(300), False, Outcome.CONFIRMED, "it went down and came back"),
        (device(301), False, Outcome.UNKNOWN, "too late to be its doing"),
        (device(0), False, Outcome.UNKNOWN, "in the same second, so perhaps before"),
        (device(-0.25), False, Outcome.UNKNOWN, "no change since"),
        (device(-1), False, Outcome.UNKNOWN, "no change since"),
        (device(-500), False, Outcome.UNKNOWN, "no change since"),
        (device(100, up=False), False, Outcome.UNKNOWN, "has not come back"),
        (device(100), True, Outcome.UNKNOWN, "a later operation may have caused it"),
        (device(None), False, Outcome.UNKNOWN, "the inventory shows no change"),
        (None, False, Outcome.UNKNOWN, "the inventory shows no change"),
    ],
)
def test_only_a_change_soon_after_the_send_that_nothing_else_explains_is_evidence(
    seen: Device | None, followed: bool, outcome: Outcome, words: str
) -> None:
    finding = judge(step(followed=followed), seen, USUAL)
    assert finding.outcome is outcome
    assert words in finding.found


class Shelf:
    def __init__(self, devices: dict[str, Device]) -> None:
        self._devices = devices

    async def devices(self, wanted: DeviceFilter = DeviceFilter()) -> AsyncIterator[Device]:  # noqa: B008
        for one in self._devices.values():
            yield one

    async def pages(self, wanted: DeviceFilter = DeviceFilter()) -> int | None:  # noqa: B008
        return 1

    async def device(self, serial: str) -> Device | None:
        return self._devices.get(serial)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """A run of three devices: two reboots whose replies were lost, one that was accepted."""
    state = StateDir(tmp_path)
    state.prepare()
    steps = Steps.of([(serial, Operation.REBOOT, 180 * NS_PER_S) for serial in ("AB1", "AB2", "AB3")])
    facts = RunFacts(RUN_ID, "m.csv", "d", "", "http://127.0.0.1:1", SENT)
    create_journal(state.journal_path(RUN_ID), NewRun(facts, DEFAULTS, steps))
    with closing(sqlite3.connect(state.journal_path(RUN_ID))) as journal, journal:
        for number, (outcome, reason) in enumerate(
            [("unknown", "read_timeout"), ("unknown", "connection_lost"), ("accepted", None)]
        ):
            journal.execute(
                "INSERT INTO attempt (step, attempt, process, intent_ns, sent_ns) VALUES (?, 1, 1, ?, ?)",
                (number, SENT, SENT),
            )
            journal.execute("INSERT INTO result VALUES (?, ?, ?, ?, 1)", (number, outcome, reason, SENT))
    return state


def outcomes(state: StateDir) -> list[tuple[str, str | None]]:
    with closing(sqlite3.connect(state.journal_path(RUN_ID))) as journal:
        return journal.execute("SELECT outcome, reason FROM result ORDER BY step").fetchall()


def test_evidence_confirms_a_step_and_the_rest_stays_unknown_all_on_record(state: StateDir) -> None:
    shelf = Shelf({"AB1": device(100)})

    async def look() -> int:
        return len(await reconcile(state, RUN_ID, shelf, limit_ns=600 * NS_PER_S))

    assert anyio.run(look) == 2
    assert outcomes(state) == [("confirmed", None), ("unknown", "connection_lost"), ("accepted", None)]
    with closing(sqlite3.connect(state.journal_path(RUN_ID))) as journal:
        evidence = journal.execute("SELECT step, before, after FROM evidence ORDER BY step").fetchall()
    assert evidence == [(0, "unknown", "confirmed"), (1, "unknown", "unknown")]


@pytest.mark.parametrize(
    ("base_url", "after_s", "outcome"),
    [
        ("http://127.0.0.1:1", 30, Outcome.UNKNOWN),
        ("http://127.0.0.1:1", -30, Outcome.CONFIRMED),
        ("http://127.0.0.1:2", 30, Outcome.CONFIRMED),
    ],
)
def test_a_change_that_another_run_may_have_caused_is_no_evidence(
    base_url: str, after_s: int, outcome: Outcome, state: StateDir
) -> None:
    other, sent_ns = "20270115-090000-abcd", SENT + after_s * NS_PER_S
    facts = RunFacts(other, "n.csv", "d", "", base_url, SENT)
    steps = Steps.of([(serial, Operation.REBOOT, 0) for serial in ("ZZ9", "AB1")])
    create_journal(state.journal_path(other), NewRun(facts, DEFAULTS, steps))
    with closing(sqlite3.connect(state.journal_path(other))) as journal, journal:
        insert = "INSERT INTO process VALUES (1, 7, '1', '', 0, ?, ?, NULL, NULL, '')"
        journal.execute(insert, (SENT, DEFAULTS.to_json()))
        journal.execute("INSERT INTO attempt (step, attempt, process, intent_ns) VALUES (1, 1, 1, ?)", (sent_ns,))
    (state.runs / "20270115-100000-abcd.db").write_bytes(b"not a journal")
    shelf = Shelf({"AB1": device(100)})

    async def look() -> Outcome:
        (finding, _) = await reconcile(state, RUN_ID, shelf, limit_ns=600 * NS_PER_S)
        return finding.outcome

    assert anyio.run(look) is outcome


def test_an_operator_decides_about_the_devices_that_are_named(state: StateDir) -> None:
    (finding,) = assume(state, RUN_ID, Assumption.NOT_EXECUTED, serials=["AB2"])
    assert "decided that it was not executed" in finding.found
    assert outcomes(state) == [("unknown", "read_timeout"), ("failed", "assumed"), ("accepted", None)]
    assume(state, RUN_ID, Assumption.EXECUTED)
    assert outcomes(state)[0] == ("accepted", Reason.ASSUMED)
    assert assume(state, RUN_ID, Assumption.EXECUTED) == []


@pytest.fixture
def crashed(tmp_path: Path) -> StateDir:
    """A run whose process died: two devices with a reset that is not answered and a step that was to follow it."""
    state = StateDir(tmp_path)
    state.prepare()
    rows = [(serial, operation, 0) for operation in (Operation.FACTORY, Operation.SYNC) for serial in ("AB1", "AB2")]
    facts = RunFacts(RUN_ID, "m.csv", "d", "", "http://127.0.0.1:1", SENT)
    create_journal(state.journal_path(RUN_ID), NewRun(facts, DEFAULTS, Steps.of(rows)))
    with closing(sqlite3.connect(state.journal_path(RUN_ID))) as journal, journal:
        journal.execute(
            "INSERT INTO process VALUES (1, 7, '1', '', 0, ?, ?, NULL, NULL, '')", (SENT, DEFAULTS.to_json())
        )
        for step in range(2):
            journal.execute("INSERT INTO attempt (step, attempt, process, intent_ns) VALUES (?, 1, 1, ?)", (step, SENT))
    return state


def test_what_a_process_that_died_left_is_reconciled_before_any_resume(crashed: StateDir) -> None:
    shelf = Shelf({"AB1": device(100)})

    async def look() -> list[Outcome]:
        return [finding.outcome for finding in await reconcile(crashed, RUN_ID, shelf, limit_ns=600 * NS_PER_S)]

    assert anyio.run(look) == [Outcome.CONFIRMED, Outcome.UNKNOWN]
    with RunView.open(crashed, RUN_ID) as view:
        assert {outcome: count for outcome, count in view.outcomes.items() if count} == {
            Outcome.CONFIRMED: 1,
            Outcome.UNKNOWN: 1,
            Outcome.NOT_STARTED: 2,
        }


def test_what_was_not_executed_ends_its_device_as_a_failure_does(crashed: StateDir) -> None:
    assume(crashed, RUN_ID, Assumption.NOT_EXECUTED, serials=["AB2"])
    with RunView.open(crashed, RUN_ID) as view:
        assert view.tally == {
            (Outcome.UNKNOWN, Reason.CRASHED): 1,
            (Outcome.FAILED, Reason.ASSUMED): 1,
            (Outcome.SKIPPED, Reason.EARLIER_STEP_FAILED): 1,
            (Outcome.NOT_STARTED, Reason.INTERRUPTED): 1,
        }
    assume(crashed, RUN_ID, Assumption.EXECUTED)
    assert len(outcomes(crashed)) == 3


def test_a_device_of_which_no_step_is_unknown_is_named_and_nothing_is_decided(state: StateDir) -> None:
    with pytest.raises(UsageError, match="no unknown step of AB3, AB9") as raised:
        assume(state, RUN_ID, Assumption.EXECUTED, serials=["AB1", "AB9", "AB3"])
    assert raised.value.hint is not None
    assert outcomes(state)[0] == ("unknown", "read_timeout")


def test_whoever_has_no_login_name_is_on_record_by_number(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(_uid: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    (finding, _) = assume(state, RUN_ID, Assumption.EXECUTED)
    assert finding.found == f"user {os.getuid()} decided that it was executed"


def test_a_live_run_is_not_reconciled(state: StateDir) -> None:
    lock = state.lock_run(RUN_ID)
    try:
        with pytest.raises(RunBusyError):
            assume(state, RUN_ID, Assumption.EXECUTED)
    finally:
        lock.release()


def test_a_run_that_does_not_exist_is_a_clear_error(state: StateDir) -> None:
    with pytest.raises(UsageError, match="there is no run"):
        assume(state, "20270115-080000-ffff", Assumption.EXECUTED)
