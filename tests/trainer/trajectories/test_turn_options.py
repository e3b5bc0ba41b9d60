"""The options of turns: what they mean, and what is refused in one sentence."""

import re

import pytest
from triptych_trainer.errors import UsageError
from triptych_trainer.options.arguments import parse_run
from triptych_trainer.training.train import turn_options
from triptych_trainer.trajectories.turn_options import TurnOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"history": "last"}, "--history: expected full, or last_ and a number such as last_2, got 'last'"),
        ({"history": "last_0"}, "--history: expected full, or last_ and a number such as last_2, got 'last_0'"),
        ({"advantage": "gae"}, "--advantage: expected one of episode, gigpo, got 'gae'"),
        ({"max_turns": 0}, "--max_turns: expected 1 or more, got 0"),
        ({"tool_seconds": 0.0}, "--tool_seconds: expected a number of seconds above 0, got 0"),
        ({"tool_seconds": float("inf")}, "--tool_seconds: expected a number of seconds above 0, got inf"),
        ({"step_gamma": 0.9}, "--step_gamma: only --advantage gigpo reads it"),
        ({"advantage": "gigpo", "step_gamma": 1.5}, "--step_gamma: expected a number from 0 to 1, got 1.5"),
        ({"advantage": "gigpo", "step_advantage_weight": -1}, "--step_advantage_weight: expected 0 or more, got -1"),
    ],
)
def test_values_that_no_run_can_hold(options, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        TurnOptions(**options)


def test_what_nothing_would_read_is_refused():
    with pytest.raises(UsageError, match="--history: without --tools and --environment a rollout has one turn"):
        TurnOptions(history="last_1").check(has_tools=False, scale_rewards="group")
    with pytest.raises(UsageError, match="--scale_rewards batch: turns are compared with those that began"):
        TurnOptions(advantage="gigpo").check(has_tools=True, scale_rewards="batch")
    with pytest.raises(UsageError, match="--max_turns 3 and --max_tool_calling_iterations 2 say the same"):
        TurnOptions(max_turns=3).calling_turns(2)
    TurnOptions().check(has_tools=False, scale_rewards="batch")


def test_a_command_line_says_them(tmp_path):
    words = ["--model", "m", "--data", "d", "--output_dir", str(tmp_path), "--tools", "t.py:f"]
    run = parse_run([*words, "--history", "last_2", "--advantage", "gigpo", "--max_turns", "4", "--mask_over_turn"]).run
    found = turn_options(run)
    assert turn_options(parse_run([*words, "--tool_seconds", "5"]).run) == TurnOptions(tool_seconds=5.0)
    assert (found.kept_images, found.comparison, found.weight, found.gamma) == (2, "gigpo", 1.0, 0.95)
    assert (found.calling_turns(None), found.mask_over_turn) == (3, True)
    assert turn_options(parse_run(words).run) == TurnOptions()
