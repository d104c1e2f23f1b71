from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetops.model import CODE_OF, OPERATIONS, Operation, Outcome
from fleetops.policy.budget import (
    Budget,
    BudgetState,
    Measure,
    format_percent,
    parse_budget,
    parse_percent_ppm,
)

REBOOT = CODE_OF[Operation.REBOOT]
FACTORY = CODE_OF[Operation.FACTORY]
BY_LETTER = {
    "a": Outcome.ACCEPTED,
    "c": Outcome.CONFIRMED,
    "f": Outcome.FAILED,
    "u": Outcome.UNKNOWN,
    "s": Outcome.SKIPPED,
    "n": Outcome.NOT_STARTED,
}


def spent_after(budget: str, outcomes: str) -> str | None:
    """What is said after these outcomes of reboots, and of factory resets where the letter is a capital."""
    state = BudgetState([parse_budget(budget)])
    for letter in outcomes:
        state.record(FACTORY if letter.isupper() else REBOOT, BY_LETTER[letter.lower()])
    return state.spent()


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("failed>5% after 100", "failed>5% after 100"),
        (" Failed  > 2.50 %  after  100 ", "failed>2.5% after 100"),
        ("unknown>20", "unknown>20"),
        ("unknown>0", "unknown>0"),
        ("consecutive>10", "consecutive>10"),
        ("failed+unknown>3%", "failed+unknown>3%"),
        ("unknown + failed > 3%", "failed+unknown>3%"),
        ("factory: failed>2% after 50", "factory: failed>2% after 50"),
        ("device_factory:unknown>0.0001%", "device_factory: unknown>0.0001%"),
        ("failed>5% after 0", "failed>5%"),
    ],
)
def test_a_budget_reads_and_writes_its_canonical_text(text: str, canonical: str) -> None:
    assert str(parse_budget(text)) == canonical
    assert parse_budget(canonical) == parse_budget(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a failure budget: write failed>5% after 100"),
        ("5%", "is not a failure budget"),
        ("failed>=5%", "is not a failure budget"),
        ("failed>-1", "is not a failure budget"),
        ("failed>5% after", "is not a failure budget"),
        ("faild>5%", "did you mean failed?"),
        ("x>5%", "a budget counts failed, unknown, failed+unknown, consecutive"),
        ("failed+failed>5%", "'failed+failed' in a failure budget is not known"),
        ("factry: failed>5%", "did you mean factory?"),
        ("x: failed>5%", "the operations are reboot, factory"),
        ("failed>100%", "a share of 100% is never exceeded"),
        ("failed>101%", "is not a percentage from 0% to 100%"),
        ("failed>0.00001%", "with at most four decimals"),
        ("failed>3 after 10", "`after` goes with a percentage"),
        ("consecutive>3%", "write consecutive>10"),
    ],
)
def test_a_budget_that_cannot_be_read_says_what_to_write(text: str, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_budget(text)
    assert message in str(raised.value)


def test_a_budget_has_one_limit() -> None:
    with pytest.raises(ValueError, match="a count or a percentage"):
        Budget(Measure.FAILED)
    with pytest.raises(ValueError, match="a count or a percentage"):
        Budget(Measure.FAILED, over_count=1, over_ppm=1)


@given(st.integers(0, 1_000_000))
def test_any_share_survives_its_text(share_ppm: int) -> None:
    assert parse_percent_ppm(format_percent(share_ppm)) == share_ppm


@pytest.mark.parametrize(
    ("budget", "outcomes", "expected"),
    [
        ("unknown>2", "uauau", "unknown>2: 3 of 5 finished steps unknown"),
        ("unknown>2", "uauaf", None),
        ("failed>0", "aaf", "failed>0: 1 of 3 finished steps failed"),
        ("failed>25%", "aaaf", None),
        ("failed>25%", "aaafaaaff", "failed>25%: 3 of 9 finished steps failed (33.33%)"),
        # Judged from the first finished step on, where it does not say from which.
        ("failed>25%", "f", "failed>25%: 1 of 1 finished steps failed (100.00%)"),
        ("failed>25% after 4", "ffa", None),
        # The step from which it is judged may be one that went well.
        ("failed>25% after 4", "ffaa", "failed>25% after 4: 2 of 4 finished steps failed (50.00%)"),
        # What was skipped or never started is not finished.
        ("failed>25% after 4", "ffasnsn", None),
        (
            "failed+unknown>25% after 4",
            "fuac",
            "failed+unknown>25% after 4: 2 of 4 finished steps failed or unknown (50.00%)",
        ),
        ("consecutive>2", "fuf", "consecutive>2: 3 steps in a row failed or unknown"),
        ("consecutive>2", "fuafucff", None),
        # A skipped step says nothing of the service, so it neither counts nor ends the row.
        ("consecutive>2", "fsusf", "consecutive>2: 3 steps in a row failed or unknown"),
        ("factory: failed>1", "ffffF", None),
        ("factory: failed>1", "FafF", "factory: failed>1: 2 of 2 finished factory steps failed"),
        # Another operation's success does not end its row.
        ("factory: consecutive>1", "FaF", "factory: consecutive>1: 2 factory steps in a row failed or unknown"),
        ("consecutive>1", "FaF", None),
    ],
)
def test_a_budget_is_spent_when_its_limit_is_exceeded(budget: str, outcomes: str, expected: str | None) -> None:
    assert spent_after(budget, outcomes) == expected


@pytest.mark.parametrize(
    ("budget", "story", "expected"),
    [
        ("unknown>1", "wwwxx", "unknown>1: 2 of 3 finished steps unknown or not confirmed"),
        ("unknown>1", "wwwxbx", "unknown>1: 2 of 3 finished steps unknown or not confirmed"),
        ("failed>0", "wwxx", None),
        (
            "failed+unknown>40% after 4",
            "wwwwxx",
            "failed+unknown>40% after 4: 2 of 4 finished steps failed or unknown or not confirmed (50.00%)",
        ),
        # That a step was accepted ends no row while its device is watched: only that the device came back does.
        ("consecutive>1", "wwxwx", "consecutive>1: 2 steps in a row failed or unknown or not confirmed"),
        ("consecutive>1", "wwxbwx", None),
    ],
)
def test_a_device_that_does_not_come_back_counts_as_unknown(budget: str, story: str, expected: str | None) -> None:
    state = BudgetState([parse_budget(budget)])
    for letter in story:
        match letter:
            case "w":
                state.record(REBOOT, Outcome.ACCEPTED, watched=True)
            case "b":
                state.confirmed(REBOOT)
            case _:
                state.not_confirmed(REBOOT)
    assert state.spent() == expected


def test_what_was_spent_first_stays_told() -> None:
    state = BudgetState([parse_budget("unknown>1"), parse_budget("consecutive>1")])
    for outcome in (Outcome.FAILED, Outcome.FAILED, Outcome.UNKNOWN, Outcome.UNKNOWN, Outcome.ACCEPTED):
        state.record(REBOOT, outcome)
    assert state.spent() == "consecutive>1: 2 steps in a row failed or unknown"


def test_totals_of_before_count_but_for_the_row() -> None:
    totals = {(REBOOT, Outcome.FAILED): 4, (FACTORY, Outcome.ACCEPTED): 5, (FACTORY, Outcome.SKIPPED): 90}
    budgets = [parse_budget("consecutive>1"), parse_budget("failed>45% after 10")]
    state = BudgetState(budgets, totals)
    assert state.spent() is None
    state.record(REBOOT, Outcome.FAILED)
    assert state.spent() == "failed>45% after 10: 5 of 10 finished steps failed (50.00%)"


def test_totals_that_exceed_a_budget_spend_it_at_once() -> None:
    state = BudgetState([parse_budget("factory: unknown>3")], {(FACTORY, Outcome.UNKNOWN): 4})
    assert state.spent() == "factory: unknown>3: 4 of 4 finished factory steps unknown"


BUDGETS = st.builds(
    lambda measure, limit, after, operation: Budget(
        measure,
        over_count=None if measure is not Measure.CONSECUTIVE and after is not None else limit // 100_000,
        over_ppm=limit if measure is not Measure.CONSECUTIVE and after is not None else None,
        after=after or 0 if measure is not Measure.CONSECUTIVE else 0,
        operation=operation,
    ),
    st.sampled_from(Measure),
    st.integers(0, 999_999),
    st.none() | st.integers(0, 12),
    st.none() | st.sampled_from(Operation),
)


def exceeds(budget: Budget, history: list[tuple[int, Outcome]]) -> bool:
    """The definition, over the whole history."""
    bad = {
        Measure.FAILED: {Outcome.FAILED},
        Measure.UNKNOWN: {Outcome.UNKNOWN},
    }.get(budget.measure, {Outcome.FAILED, Outcome.UNKNOWN})
    finished = [
        outcome
        for operation, outcome in history
        if outcome not in {Outcome.SKIPPED, Outcome.NOT_STARTED} and budget.operation in {None, OPERATIONS[operation]}
    ]
    if budget.measure is Measure.CONSECUTIVE:
        row = 0
        while row < len(finished) and finished[-1 - row] in bad:
            row += 1
        return row > (budget.over_count or 0)
    count = sum(outcome in bad for outcome in finished)
    if budget.over_ppm is None:
        return count > (budget.over_count or 0)
    return len(finished) >= budget.after and count * 1_000_000 > budget.over_ppm * len(finished)


@given(BUDGETS, st.lists(st.tuples(st.integers(0, 4), st.sampled_from(Outcome)), max_size=30))
def test_a_budget_is_spent_from_the_first_moment_that_its_definition_holds(
    budget: Budget, history: list[tuple[int, Outcome]]
) -> None:
    assert parse_budget(str(budget)) == budget
    state = BudgetState([budget])
    expected = False
    for at, (operation, outcome) in enumerate(history, start=1):
        state.record(operation, outcome)
        expected = expected or exceeds(budget, history[:at])
        assert (state.spent() is not None) is expected


@given(
    BUDGETS.filter(lambda budget: budget.measure is not Measure.CONSECUTIVE),
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(Outcome)), max_size=30),
)
def test_totals_stand_for_the_history_that_they_sum_up(budget: Budget, history: list[tuple[int, Outcome]]) -> None:
    assert (BudgetState([budget], Counter(history)).spent() is not None) is exceeds(budget, history)
