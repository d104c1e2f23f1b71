from __future__ import annotations

from typing import TYPE_CHECKING

from fleetops.simulation import StuckError
from fleetops.simulation import __main__ as command
from fleetops.simulation.campaigns import play

if TYPE_CHECKING:
    import pytest

    from fleetops.simulation.campaigns import Story


def test_one_seed_says_what_became_of_each_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--seed", "2"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("run 0: ")
    assert "  outcomes: " in printed
    assert printed.endswith("0 broke a promise\n")


def test_many_seeds_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--seed", "5", "--campaigns", "3"]) == 0
    assert capsys.readouterr().out.startswith("3 campaigns, ")


def test_a_breach_names_its_seed_and_how_to_replay_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget_a_result(seed: int) -> Story:
        story = play(seed)
        story.runs[0].journal.results.clear()
        return story

    monkeypatch.setattr(command, "play", forget_a_result)
    assert command.main(["--seed", "5"]) == 1
    printed = capsys.readouterr().out
    assert "replay: python -m fleetops.simulation --seed 5\n" in printed
    assert "every_step_has_one_outcome: run 0: step 0 has no outcome in the journal" in printed


def test_a_run_without_an_end_is_a_breach(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def get_stuck(seed: int) -> Story:
        raise StuckError("nothing is under way")

    monkeypatch.setattr(command, "play", get_stuck)
    assert command.main([]) == 1
    assert "StuckError: nothing is under way" in capsys.readouterr().out
