"""What becomes of a step under every fault, by operation and resend policy, and how often its request arrives."""

from __future__ import annotations

import socket
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import pytest

from fleetops.control import ClientSettings, HttpControlPlane, Token
from fleetops.journal import RunClock
from fleetops.model import NS_PER_S, OPERATIONS, Operation, Outcome, Reason, Reply, ReplyKind, Steps
from fleetops.policy import Policy
from fleetops.runner.drive import Runner
from fleetops.runner.event_loop import run_in_loop
from fleetops.scheduler import Effect, Finish, Scheduler, StopReason
from tests.control.faults import FAULTS, SECRET, Fault
from tests.control.scripted_server import Peer, ScriptedServer, accepting, reply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetops.scheduler import Notice

ATTEMPTS = 3
HARMLESS = {Operation.SYNC, Operation.RECONF}
RESENDS = {
    "the default": ({}, HARMLESS),
    "no resends": ({"sync": False, "reconf": False}, set()),
    "reboots too": ({"reboot": True}, {*HARMLESS, Operation.REBOOT}),
    "everything": (
        {"reboot": True, "factory": True, "device_factory": True, "destructive": True},
        set(OPERATIONS),
    ),
}


@dataclass
class MemoryJournal:
    """A `Journal` that only remembers.

    Attributes:
        intents: (step, attempt) in the order in which they became durable.
        replies: What was noted of each attempt.
        finished: The outcome of each step, with its reason.
    """

    intents: list[tuple[int, int]] = field(default_factory=list)
    replies: dict[tuple[int, int], Reply] = field(default_factory=dict)
    finished: dict[int, tuple[Outcome, Reason | None]] = field(default_factory=dict)

    async def intend(self, step: int, attempt: int, now_ns: int) -> None:
        self.intents.append((step, attempt))

    def withdrawn(self, step: int, attempt: int) -> None:
        self.intents.remove((step, attempt))

    def answered(
        self,
        step: int,
        attempt: int,
        *,
        sent_ns: int | None,
        answered_ns: int,
        reply: Reply,
        effects: Sequence[Effect],
    ) -> None:
        assert (step, attempt) in self.intents
        assert (step, attempt) not in self.replies
        self.replies[step, attempt] = reply
        for effect in effects:
            if isinstance(effect, Finish):
                assert effect.step not in self.finished
                self.finished[effect.step] = (effect.outcome, effect.reason)

    def confirmed(self, effects: Sequence[Effect], now_ns: int) -> None:
        raise AssertionError("nothing is looked for here")

    def happened(self, notices: Sequence[Notice]) -> None:
        pass

    async def serve(self) -> None:
        await anyio.sleep_forever()

    async def close(self, *, now_ns: int, reason: str, detail: str) -> None:
        pass

    def attempts(self) -> dict[Operation, int]:
        """Attempts by operation: there is one step of each."""
        counted = Counter(step for step, _ in self.intents)
        return {operation: counted[step] for step, operation in enumerate(OPERATIONS)}


def policy(resend: dict[str, bool], *, attempts: int = ATTEMPTS) -> Policy:
    return Policy.model_validate(
        {
            "rate": "50000/s",
            "concurrency": len(OPERATIONS),
            "retries": {"attempts": attempts, "initial": "1ms", "cap": "2ms"},
            "throttling": {"hold": "1ms"},
            "resend": resend,
        }
    )


def run(base_url: str, policy: Policy, *, read_timeout_s: float = 5.0) -> tuple[StopReason, MemoryJournal]:
    """Run one step of each operation, each on a device of its own."""
    steps = Steps.of([(f"SN{operation}", operation, NS_PER_S) for operation in OPERATIONS])
    journal = MemoryJournal()

    async def main() -> StopReason:
        control = HttpControlPlane(
            ClientSettings(base_url=base_url, token=Token(SECRET), read_timeout_s=read_timeout_s)
        )
        scheduler = Scheduler(steps, policy, b"run")
        try:
            with anyio.fail_after(30):
                return await Runner(scheduler, journal, control, RunClock(), steps=steps, policy=policy).drive()
        finally:
            await control.aclose()

    return run_in_loop(main), journal


def expected(fault: Fault, *, resent: bool) -> tuple[tuple[Outcome, Reason | None], int]:
    """The outcome of a step whose every attempt meets `fault`, and its attempts."""
    match fault.kind:
        case ReplyKind.ACCEPTED:
            return (Outcome.ACCEPTED, None), 1
        case ReplyKind.REFUSED:
            return (Outcome.FAILED, fault.reason), 1
        case ReplyKind.BAD_REPLY:
            return (Outcome.UNKNOWN, fault.reason), 1
        case ReplyKind.MAYBE:
            return (Outcome.UNKNOWN, fault.reason), ATTEMPTS if resent else 1
    raise AssertionError(fault.kind)


ENDING = [fault for fault in FAULTS if fault.kind in {ReplyKind.TOKEN_REFUSED, ReplyKind.MISDIRECTED}]
THROTTLED = [fault for fault in FAULTS if fault.kind is ReplyKind.THROTTLED]
# One fault that times out stands for the others here, which take their time.
OTHERS = [fault for fault in FAULTS if fault not in ENDING + THROTTLED and (not fault.times_out or fault.says)]
OF_EACH_REASON = {(fault.kind, fault.reason): fault for fault in OTHERS}.values()


@pytest.mark.parametrize(
    ("fault", "resend"),
    [
        *((fault, "the default") for fault in OTHERS),
        *((fault, resend) for fault in OF_EACH_REASON for resend in RESENDS if resend != "the default"),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else value,
)
def test_each_step_has_its_outcome_and_arrives_as_often_as_its_policy_allows(fault: Fault, resend: str) -> None:
    setting, resent = RESENDS[resend]
    with ScriptedServer(fault.script) as server:
        ended, journal = run(server.base_url, policy(setting), read_timeout_s=0.1 if fault.times_out else 5.0)
    assert ended is StopReason.COMPLETE
    wanted = {operation: expected(fault, resent=operation in resent) for operation in OPERATIONS}
    assert journal.finished == {step: wanted[operation][0] for step, operation in enumerate(OPERATIONS)}
    assert journal.attempts() == {operation: attempts for operation, (_, attempts) in wanted.items()}
    arrivals = {operation: attempts * fault.arrivals for operation, attempts in journal.attempts().items()}
    assert server.operations == +Counter({operation.value: count for operation, count in arrivals.items()})


@pytest.mark.parametrize("resend", RESENDS)
def test_what_cannot_have_been_reached_is_tried_again_whatever_the_operation(resend: str) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        ended, journal = run(f"http://127.0.0.1:{bound.getsockname()[1]}", policy(RESENDS[resend][0]))
    assert ended is StopReason.COMPLETE
    assert set(journal.finished.values()) == {(Outcome.FAILED, Reason.UNREACHABLE)}
    assert set(journal.attempts().values()) == {ATTEMPTS}


def test_what_was_throttled_is_sent_again_at_no_cost_to_its_retries() -> None:
    seen: Counter[str] = Counter()

    def script(peer: Peer) -> None:
        while True:
            arrival = peer.request()
            seen[arrival.operation] += 1
            if seen[arrival.operation] == 1:
                peer.send(reply("", "429 Too Many Requests", "Retry-After: 0"))
            else:
                peer.send(arrival.reply())

    with ScriptedServer(script) as server:
        ended, journal = run(server.base_url, policy({}, attempts=1))
    assert ended is StopReason.COMPLETE
    assert set(journal.finished.values()) == {(Outcome.ACCEPTED, None)}
    assert set(journal.attempts().values()) == {2}
    assert server.operations == Counter(dict.fromkeys(OPERATIONS, 2))


@pytest.mark.parametrize("fault", ENDING, ids=lambda fault: fault.name)
def test_a_refused_token_or_a_redirect_stops_the_run_and_leaves_its_steps_open(fault: Fault) -> None:
    with ScriptedServer(fault.script) as server:
        ended, journal = run(server.base_url, policy(RESENDS["everything"][0]))
    assert ended is (StopReason.TOKEN_REFUSED if fault.kind is ReplyKind.TOKEN_REFUSED else StopReason.MISDIRECTED)
    assert journal.finished == {}
    assert all(count == 1 for count in server.operations.values())


def test_a_lost_reply_then_an_acceptance_is_accepted_where_a_resend_is_allowed() -> None:
    lost: set[str] = set()

    def script(peer: Peer) -> None:
        while True:
            arrival = peer.request()
            if arrival.operation not in lost:
                lost.add(arrival.operation)
                return
            peer.send(arrival.reply())

    with ScriptedServer(script) as server:
        _, journal = run(server.base_url, policy({}))
    for step, operation in enumerate(OPERATIONS):
        again = operation in HARMLESS
        assert journal.finished[step] == (
            (Outcome.ACCEPTED, None) if again else (Outcome.UNKNOWN, Reason.CONNECTION_LOST)
        )
        assert server.operations[operation] == (2 if again else 1)


def test_one_step_each_is_accepted_where_nothing_goes_wrong() -> None:
    with ScriptedServer(accepting) as server:
        ended, journal = run(server.base_url, policy({}))
    assert ended is StopReason.COMPLETE
    assert set(journal.finished.values()) == {(Outcome.ACCEPTED, None)}
    assert server.operations == Counter(dict.fromkeys(OPERATIONS, 1))


def test_a_step_that_did_not_exist_the_second_time_has_not_run_the_first_time() -> None:
    statuses = iter(["502 Bad Gateway", "404 Not Found"])

    def script(peer: Peer) -> None:
        while True:
            if peer.request().operation == Operation.SYNC:
                peer.send(reply("", next(statuses)))
            else:
                peer.send(reply("", "404 Not Found"))

    with ScriptedServer(script) as server:
        _, journal = run(server.base_url, policy({}))
    assert journal.finished[OPERATIONS.index(Operation.SYNC)] == (Outcome.FAILED, Reason.NOT_FOUND)
    assert server.operations[Operation.SYNC] == 2
