"""A resumed run says where `reset` or a tool answers something else than before the interruption."""

import json
import random

import numpy as np
import pytest
import torch
from PIL import Image
from triptych_trainer.rollouts.rollout import RolloutGroup
from triptych_trainer.trajectories.replay import answers_of, check_answers


class Boxes:
    """An environment whose parts may drift."""

    first = later = 0

    def reset(self, seed: int, **row: object) -> list:
        """Begin."""
        return [{"type": "image", "image": Image.new("RGB", (56, 56), (Boxes.first, seed, 9))}]

    def look(self, side: int) -> list:
        """Look closer.

        Args:
            side: how large.
        """
        return [{"type": "image", "image": Image.new("RGB", (side, 56), (9, side, Boxes.later))}, "closer"]


def roll(sides: int) -> str:
    """Roll a die.

    Args:
        sides: how many sides it has.
    """
    return f"{random.random()} {np.random.random()} {torch.rand(())}"


def call(name, **arguments):
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


def said_when_resumed(stage):
    parts = answers_of(stage.play)

    def begin(key, seen):
        (group,) = (one for one in stage.groups if one.key == key)
        return stage.play.observed(group, seen) if seen else RolloutGroup(key=key, prompt=group.prompt)

    before = [random.getstate(), *map(str, (np.random.get_state(), torch.get_rng_state().tolist()))]
    check_answers(stage.play, parts, begin=begin)
    assert [random.getstate(), *map(str, (np.random.get_state(), torch.get_rng_state().tolist()))] == before
    return stage.said


@pytest.mark.parametrize(
    ("drifts", "expected"),
    [
        (None, None),
        ("first", "`reset` of Boxes shows row 4 something else than before the interruption, so that rollouts"),
        ("later", "turn 1: the same call of `look` is answered with something else than before the interruption, so"),
    ],
)
def test_an_environment_that_drifts_is_named(monkeypatch, stage_of, drifts, expected):
    stage = stage_of(environment=Boxes)
    stage.run(["blue"], [call("look", side=84), "red"])
    assert stage.play.answered["number"] == 1, "the first rollout asked nothing"
    if drifts:
        monkeypatch.setattr(Boxes, drifts, 50)
    said = said_when_resumed(stage)
    assert said == [] if expected is None else expected in said[0]
    assert len(said) == (expected is not None)


def test_a_tool_that_draws_without_a_seed_is_named_and_leaves_the_random_numbers_as_they_are(stage_of):
    stage = stage_of(tools=[roll])
    stage.run([call("roll", sides=6), "red"])
    (line,) = said_when_resumed(stage)
    assert "rollout 1, turn 1: the same call of `roll` is answered with something else" in line


def test_nothing_is_asked_again_where_nothing_was_asked(stage_of):
    stage = stage_of(tools=[roll])
    stage.run(["red"])
    assert stage.play.answered == {}
    assert said_when_resumed(stage) == []
