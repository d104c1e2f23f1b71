"""Random campaigns from a seed, and what becomes of them: faults, crashes, operators, two runs on the same devices."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any, Final

from fleetops.model import NS_PER_S, OPERATIONS, Steps
from fleetops.policy import Policy
from fleetops.policy.settings import OnGateFailed
from fleetops.scheduler import StopReason
from fleetops.simulation.engine import Order, StuckError, simulate
from fleetops.simulation.journal import ModelJournal
from fleetops.simulation.world import Faults, HostileWorld

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetops.scheduler import Progress
    from fleetops.simulation.trace import Trace

EPOCH_NS: Final = 1_767_225_600 * NS_PER_S
"""2026-01-01 in UTC, when every simulated story begins."""
MOST_LIVES: Final = 500
"""Processes that one story may take; a run that needs more is stuck."""
MOST_EVENTS: Final = 200_000

_RATES: Final = ("1/h", "7/h", "1/m", "20/m", "1/s", "2.5/s", "5/s", "50/s", "1000/s")
_COMMITS_NS: Final = (1_000, 1_000_000, 5_000_000, 80_000_000, 2 * NS_PER_S)
_BREAKS_NS: Final = (1, 3_000_000, 900_000_000, 20 * NS_PER_S, 600 * NS_PER_S, 7200 * NS_PER_S)


@dataclass(frozen=True, slots=True)
class Campaign:
    """What one run is to do, how, and what it meets.

    Attributes:
        steps: The manifest.
        policy: The policy.
        faults: The service.
        commit_ns: How long a commit of its journal takes.
    """

    steps: Steps
    policy: Policy
    faults: Faults
    commit_ns: int


@dataclass(frozen=True, slots=True)
class Life:
    """One process's drive of a run.

    Attributes:
        trace: What happened.
        progress: What it went on from.
        orders: What the operator told it.
    """

    trace: Trace
    progress: Progress
    orders: tuple[tuple[int, Order], ...]


@dataclass(slots=True)
class Run:
    """A run through all its lives.

    Attributes:
        campaign: What it is.
        key: Its name.
        world: Its service.
        journal: Its journal.
        lives: The processes that drove it.
    """

    campaign: Campaign
    key: bytes
    world: HostileWorld
    journal: ModelJournal
    lives: list[Life] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do."""
        return bool(self.lives) and self.lives[-1].trace.ended is StopReason.COMPLETE


@dataclass(slots=True)
class Story:
    """Runs on the same devices, one process after another, never two at once.

    Attributes:
        runs: The runs.
        now_ns: When it ended.
    """

    runs: list[Run]
    now_ns: int = EPOCH_NS

    def live(self, run: Run, *, orders: Sequence[tuple[int, Order]] = (), crash_at: int | None = None) -> Trace:
        """Drive a run, or take it up, as another process.

        Raises:
            StuckError: It does not end.
        """
        campaign, journal = run.campaign, run.journal
        progress = self._settling_also(run, journal.progress(self.now_ns))
        at_ns = tuple((self.now_ns + after_ns, order) for after_ns, order in orders)
        trace = simulate(
            campaign.steps,
            campaign.policy,
            run.key,
            run.world,
            self.now_ns,
            progress=progress,
            journal=journal,
            commit_ns=campaign.commit_ns,
            patience_ns=600 * NS_PER_S,
            wave_seed=run.key.decode(),
            orders=at_ns,
            crash_at=crash_at,
            most_events=MOST_EVENTS,
        )
        run.lives.append(Life(trace, progress, at_ns))
        self.now_ns = trace.end_ns
        return trace

    def _settling_also(self, run: Run, progress: Progress) -> Progress:
        """What a run goes on from, with the settle times that the others left behind."""
        rest, disturbed = dict(progress.not_before_ns), dict(progress.disturbed_until_ns)
        devices = {serial: device for device, serial in enumerate(run.campaign.steps.serials)}
        for other in self.runs:
            if other is run:
                continue
            for theirs, due_ns in other.journal.settling(self.now_ns, of_open_steps=True).items():
                device = devices.get(other.campaign.steps.serials[theirs])
                if device is not None:
                    rest[device] = max(rest.get(device, 0), due_ns)
                    disturbed[device] = max(disturbed.get(device, 0), due_ns)
        return replace(progress, not_before_ns=rest, disturbed_until_ns=disturbed)


def play(seed: int) -> Story:
    """Make a story from a seed and play it to its end, where every run is complete.

    Raises:
        StuckError: A run does not end.
    """
    rng = Random(seed)  # noqa: S311 - a seeded story, not a secret
    serials = [f"CPE{number:04}" for number in range(rng.choice((1, 2, 3, 8, 20, 40)))]
    story = Story([])
    for number in range(rng.choice((1, 1, 2))):
        campaign = make_campaign(rng, serials)
        key = b"%d-%d" % (seed, number)
        world = HostileWorld(rng.getrandbits(32), campaign.steps, campaign.policy, campaign.faults)
        story.runs.append(Run(campaign, key, world, ModelJournal(campaign.steps)))
    for _ in range(rng.choice((0, 1, 2, 3, 5))):
        run = rng.choice(story.runs)
        if not run.is_complete:
            _live_through_trouble(story, run, rng)
            story.now_ns += rng.choice(_BREAKS_NS)
    for run in story.runs:
        _complete(story, run)
    return story


def _live_through_trouble(story: Story, run: Run, rng: Random) -> None:
    campaign = run.campaign
    trouble = rng.choice(("crash", "crash", "crash", "stop", "cancel", "pause", "none"))
    if trouble == "crash":
        story.live(run, crash_at=rng.randrange(rng.choice((4, 40, 8 * len(campaign.steps)))))
        run.journal.crash(story.now_ns, commit_made_it=rng.random() < 0.5)  # noqa: PLR2004 - a coin
    elif trouble == "none":
        story.live(run)
    else:
        after_ns = rng.randrange(1, _expected_ns(campaign) + 1)
        orders = [(after_ns, Order(trouble))]
        if trouble == "pause":
            orders.append((after_ns + rng.randrange(1, 600 * NS_PER_S), Order.CONTINUE))
        story.live(run, orders=orders)
    _mend(run)


def _complete(story: Story, run: Run) -> None:
    """Take the run up until nothing is left of it, as an operator who mends what stopped it would."""
    while not run.is_complete:
        if len(run.lives) > MOST_LIVES:
            raise StuckError(f"the run is not complete after {MOST_LIVES} processes")
        story.live(run)
        _mend(run)
        story.now_ns += NS_PER_S


def _mend(run: Run) -> None:
    """A run that was stopped by its token or its base URL is resumed with good ones."""
    ended = run.lives[-1].trace.ended
    if ended is StopReason.TOKEN_REFUSED:
        run.world.faults = replace(run.world.faults, token_refused_ns=None)
    elif ended is StopReason.MISDIRECTED:
        run.world.faults = replace(run.world.faults, misdirected_ns=None)


def _expected_ns(campaign: Campaign) -> int:
    """Roughly how long the run would take in a calm world."""
    sending_ns = round(len(campaign.steps) / campaign.policy.rate.per_s * NS_PER_S)
    return sending_ns + 2 * max(campaign.steps.settle_ns_of)


def make_campaign(rng: Random, serials: Sequence[str]) -> Campaign:
    """A campaign on some of the devices."""
    policy = Policy.model_validate(_make_policy(rng))
    steps = _make_steps(rng, rng.sample(serials, rng.randint(1, len(serials))), grouped=policy.group_cap is not None)
    campaign = Campaign(steps, policy, Faults(), rng.choice(_COMMITS_NS))
    return replace(campaign, faults=_make_faults(rng, _expected_ns(campaign)))


def _make_steps(rng: Random, serials: Sequence[str], *, grouped: bool) -> Steps:
    longest = rng.choice((1, 2, 4))
    rows = [device for device in range(len(serials)) for _ in range(rng.randint(1, longest))]
    if rng.random() < 0.5:  # noqa: PLR2004 - a coin
        rng.shuffle(rows)
    first_named = {device: number for number, device in enumerate(dict.fromkeys(rows))}
    most_settle_s = rng.choice((0, 5, 300))
    return Steps(
        serials=[serials[device] for device in first_named],
        groups=[rng.choice(("", "north", "south")) for _ in first_named] if grouped else (),
        device_of=array("I", (first_named[device] for device in rows)),
        operation_of=bytes(rng.randrange(len(OPERATIONS)) for _ in rows),
        settle_ns_of=array("q", (rng.randint(0, most_settle_s) * NS_PER_S for _ in rows)),
    )


def _make_policy(rng: Random) -> dict[str, Any]:
    destructive = rng.random() < 0.5  # noqa: PLR2004 - a coin
    policy: dict[str, Any] = {
        "rate": rng.choice(_RATES),
        "burst": rng.choice((0, 0, 0, 1, 5)),
        "concurrency": rng.choice((1, 2, 5, 16)),
        "timeouts": rng.choice(({"connect": 10, "read": 30}, {"connect": 1, "read": 2})),
        "retries": {
            "attempts": rng.randint(1, 5),
            "backoff": rng.choice(("exponential", "linear", "fixed")),
            "initial": rng.choice((0.01, 1, 30)),
            "cap": rng.choice((1, 60)),
            "jitter": rng.random(),
            "total": rng.choice((10, 900, 7200)),
        },
        "throttling": {
            "hold": rng.choice((1, 30)),
            "longest_hold": rng.choice((5, 600)),
            "give_up": rng.choice((60, 3600)),
        },
        "breaker": {"failures": rng.choice((0, 2, 10)), "hold": 5, "longest_hold": 60, "give_up": 1800},
        "resend": {
            "reboot": rng.random() < 0.3,  # noqa: PLR2004 - a weighted coin
            "sync": rng.random() < 0.7,  # noqa: PLR2004 - a weighted coin
            "reconf": rng.random() < 0.7,  # noqa: PLR2004 - a weighted coin
            "destructive": destructive,
            **{name: destructive and rng.random() < 0.5 for name in ("factory", "device_factory")},  # noqa: PLR2004
        },
        "on_failure": rng.choice(("skip_rest", "continue")),
    }
    for chance, setting in (
        (0.15, {"window": rng.choice(("02:00-05:00 Europe/Madrid", "22:00-03:00 UTC", "sat,sun 00:00-24:00 UTC"))}),
        (0.2, {"waves": rng.choice(("1,50%,100%", "10%,100%")), "gate": rng.choice(_GATES)}),
        (0.1, {"abort_when": rng.choice(("failed>2", "unknown>10% after 5", "consecutive>3"))}),
        (0.25, {"group_cap": rng.choice((1, 2, "40%"))}),
        (0.2, {"confirm": {"enabled": True, "limit": rng.choice((30, 600)), "every": 10}}),
    ):
        if rng.random() < chance:
            policy |= setting
    policy["at_end"] = rng.choice(("stop", "wait"))
    policy["on_gate_failed"] = rng.choice(tuple(OnGateFailed))
    return policy


_GATES: Final = ("failed<=5%, unknown<=5%", "failed<=50%, soak 10m", "unknown<=10%, after 3")


def _make_faults(rng: Random, expected_ns: int) -> Faults:
    harshness = rng.choice((0.0, 0.03, 0.2))
    faults: dict[str, Any] = {
        name: harshness * rng.random()
        for name in ("unreachable", "lost", "server_error", "throttled", "bad_reply", "rejected", "no_such_device")
    }
    for chance, name in ((0.15, "token_refused_ns"), (0.05, "misdirected_ns")):
        if rng.random() < chance:
            faults[name] = EPOCH_NS + rng.randrange(expected_ns + 1)
    for chance, name in ((0.15, "outages_ns"), (0.1, "throttling_ns")):
        if rng.random() < chance:
            from_ns = EPOCH_NS + rng.randrange(expected_ns + 1)
            faults[name] = ((from_ns, from_ns + rng.randrange(1, 3 * 3600 * NS_PER_S)),)
    return Faults(
        latency_ns=rng.choice((1_000_000, 200_000_000, 3 * NS_PER_S, 20 * NS_PER_S)),
        retry_after_s=rng.choice((None, 0.5, 2.0, 120.0)),
        away_ns=rng.choice((NS_PER_S, 60 * NS_PER_S)),
        stays_down=rng.choice((0.0, 0.1)),
        **faults,
    )
