"""Rollouts of several turns in environments: what begins them, which row plays in which, and what is kept of them."""

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from triptych_data import DataError
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.groups import group_batch
from triptych_trainer.rollouts.rollout import RolloutGroup
from triptych_trainer.rollouts.state import groups_from_state, groups_to_state
from triptych_trainer.rollouts.turns import records_of, trajectory_of
from triptych_trainer.trajectories.environments import Environments, rewards_of


def call(name, **arguments):
    """A message that calls a tool."""
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


def picture(colour, size=(56, 56)):
    return Image.new("RGB", size, colour)


class Box:
    """An environment in which a box is opened."""

    shared = 0

    def __init__(self):
        self.done = False

    def reset(self, seed: int) -> list:
        self.seed, self.opened, self.done = seed, 0, False
        return [{"type": "text", "text": " You see "}, {"type": "image", "image": picture((seed, 9, 9), (28, 28))}]

    def open(self, box: int) -> list:
        """Open a box.

        Args:
            box: its number.
        """
        self.opened += 1
        self.done = box == 2
        return [{"type": "image", "image": picture((9, box, self.seed))}]

    def get_reward(self) -> float:
        return float(self.opened)

    def _hidden(self) -> None: ...


def test_an_environment_begins_the_prompt_answers_and_ends_the_rollout(stage_of):
    stage = stage_of(environment=Box)
    first, second, third = stage.run(
        [call("open", box=1), call("open", box=2), "x"], [call("open", box=1), "red"], ["blue"]
    )
    assert [one.finish for one in (first, second, third)] == ["done", "stop", "stop"]
    assert [len(one.images) for one in (first, second, third)] == [1, 1, 0]
    assert first.messages[-1]["content"][0]["image"].size == (56, 56), "rewards see what the model no longer sees"
    assert [one.for_rewards.environment.get_reward() for one in (first, second, third)] == [2.0, 1.0, 0.0]
    prompt = stage.group.prompt
    assert len(prompt.spans) == 2
    assert prompt.example.prompt.messages()[-1]["content"][-1] == {"type": "image"}
    assert "You see" in prompt.example.prompt.messages()[-1]["content"][-2]["text"]
    (schema,) = (schema["function"] for schema in stage.play.writers[None].schemas)
    assert (schema["name"], list(schema["parameters"]["properties"])) == ("open", ["box"])


def test_nothing_is_done_after_an_environment_has_ended_the_rollout(stage_of):
    class Slow(Box):
        async def wait(self, box: int) -> str:
            """Open a box later.

            Args:
                box: its number.
            """
            await asyncio.sleep(0.01)
            self.open(box)
            return f"opened {box}"

    stage = stage_of(environment=Slow)
    first, second = stage.run(
        [call("open", box=1) + call("open", box=2) + call("open", box=3)],
        [call("wait", box=1) + call("open", box=3) + call("wait", box=2) + call("wait", box=4), "red"],
    )
    assert [one.for_rewards.environment.opened for one in (first, second)] == [2, 3]
    assert [[one.was_done for one in own.calls] for own in (first, second)] == [
        [True, True, False],
        [True] * 3 + [False],
    ]
    assert [len(own.messages) - 1 for own in (first, second)] == [2, 3], "a result for each call that was done"
    assert [message["content"] for message in second.messages[1::2]] == ["opened 1", "opened 2"], "in their order"
    record = trajectory_of(first, stage.group.prompt, images=records_of(first))
    assert [one.was_done for one in record.turns[0].calls] == [True, True, False]
    assert first.num_calls == 2


class Lamp:
    """Another environment, which says nothing at first and has another method."""

    def reset(self, **row) -> None:
        self.row, self.lit = row, False

    def press(self) -> str:
        """Press the button."""
        self.lit = True
        return "lit"

    def get_reward(self) -> float:
        return 10.0 * self.lit


def test_the_column_environment_chooses_among_several_which_tools_a_prompt_lists_and_what_scores_it(stage_of):
    rows = {0: {"environment": "lamp", "seed": 4}, 1: {"environment": "box", "seed": 5}}
    stage = stage_of(environment={"box": Box, "lamp": Lamp}, rows=rows)
    prompts = [stage.tokenizer.decode(group.prompt.ids) for group in stage.groups]
    assert ['"name": "press"' in text for text in prompts] == [True, False]
    assert ['"name": "open"' in text for text in prompts] == [False, True]
    said = {(0, 0): [call("press"), "red"], (0, 1): [call("open", box=1), "x"], (1, 0): [call("open", box=1), "red"]}
    lamps, boxes = stage.play_all(said, sizes=[2, 1])
    assert [one.num_failed_calls for one in (*lamps.rollouts, *boxes.rollouts)] == [0, 1, 0]
    assert "there is no tool 'open'; the tools are press" in lamps.rollouts[1].messages[1]["content"]
    played = [one.for_rewards.environment for one in (*lamps.rollouts, *boxes.rollouts)]
    assert [type(one) for one in played] == [Lamp, Lamp, Box]
    assert len(set(map(id, played))) == 3
    assert played[0].row == {"seed": 4}, "the column chooses, and is no argument of `reset`"
    box, lamp = rewards_of(stage.play.environments)
    assert (box.__name__, box(environments=played), lamp(environments=played)) == (
        *("Box", [None, None, 1.0]),
        [10.0, 0.0, None],
    )


def test_a_row_that_chooses_no_environment_is_refused_with_its_place(stage_of):
    with pytest.raises(
        DataError,
        match="expected one of box, lamp in the column environment, got 'bag'; name the environment of the row there",
    ):
        stage_of(environment={"box": Box, "lamp": Lamp}, rows={0: {"environment": "bag"}})
    with pytest.raises(UsageError, match="2 classes are both called Box in logs and reports; rename one"):
        Environments({"a": Box, "b": type("Box", (Box,), {})})


def test_rollouts_of_a_row_that_begin_differently_are_refused(stage_of):
    class Dice(Box):
        def reset(self, **row) -> list:
            Box.shared += 1
            return [{"type": "text", "text": f"a {Box.shared}"}]

    stage = stage_of(environment=Dice)
    with pytest.raises(UsageError, match=r"`reset` of Dice showed rollout 1 and rollout 2 different things"):
        stage.run(["red"], ["red"])


class Grid(Box):
    """Fails where it is told to."""

    wrong = ""

    def reset(self, **row) -> list:
        if Grid.wrong == "reset" and Box.shared == 1:
            raise KeyError("door")
        Box.shared += 1
        self.done = Grid.wrong == "done"
        return 5 if Grid.wrong == "a number" else np.zeros((2, 2, 3)) if Grid.wrong == "an array" else []

    def get_reward(self) -> float:
        if Grid.wrong == "get_reward":
            raise ZeroDivisionError
        return "much" if Grid.wrong == "no number" else 0.5

    def get_turn_reward(self) -> float:
        raise ValueError("lost")


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (
            "reset",
            r"rows.jsonl:1: rollout 2: `reset` of Grid failed: KeyError: 'door' \(test_play_environments.py:\d+\); ",
        ),
        ("a number", r"rows.jsonl:1: `reset` of Grid: expected None, a text, a PIL image or a list of parts, got int"),
        (
            "an array",
            r"`reset` of Grid: expected None, a text, a PIL image or a list of parts, got ndarray; return a list",
        ),
        ("done", r"rows.jsonl:1: rollout 1: `reset` of Grid leaves `done` true, so that the rollout would end before"),
        ("turn", r"example row-0, rollout 1, turn 1: `get_turn_reward` of Grid failed: ValueError: lost \("),
    ],
)
def test_what_an_environment_does_wrong_is_one_sentence_with_row_and_rollout(stage_of, wrong, expected):
    Grid.wrong, Box.shared = wrong, 0
    stage = stage_of(environment=Grid)
    with pytest.raises(UsageError, match=expected):
        stage.run([call("open", box=1), "red"], ["red"])


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (picture("red", (0, 4)), r"rows.jsonl:1: image 2 of `reset` \(0 x 4 pixels\) cannot be used: the image has no"),
        (Image.new("I", (56, 56)), r"image 2 of `reset` \(56 x 56 pixels\) cannot be used: expected 8 or 16 bits"),
        (picture("red", (1, 4000)), r"cannot be used: .*aspect ratio.*; return another image, or text"),
    ],
)
def test_an_image_of_reset_that_cannot_be_used_is_not_taken_for_one_of_the_data(stage_of, shown, words):
    class Odd(Box):
        def reset(self, **row) -> list:
            return [picture("red"), shown]

    with pytest.raises(UsageError, match=words):
        stage_of(environment=Odd).run(["red"])


def test_an_environment_that_ends_the_process_is_named():
    class Gone(Box):
        def reset(self, **row) -> None:
            raise SystemExit("no display")

    environments = Environments(Gone)
    with pytest.raises(UsageError, match=r"a:1: rollout 1: `reset` of Gone failed: SystemExit: no display \("):
        environments.reset(environments.take(1), {}, where="a:1")


def test_a_public_helper_is_named_with_its_class():
    class Helped(Box):
        def distance(self, a, b): ...

    with pytest.raises(
        UsageError, match=r"the tool distance cannot be .* public method of Helped, .* an underscore if"
    ):
        Environments(Helped)


def test_a_reward_that_fails_or_is_no_number_names_its_rollout():
    environments = Environments(Grid)
    (reward,) = rewards_of(environments)
    played, rows = environments.take(2), ["a:1", "a:1"]
    Grid.wrong = "get_reward"
    with pytest.raises(
        UsageError, match=r"a:1: rollout 1: `get_reward` of Grid failed: ZeroDivisionError \(.*a rollout"
    ):
        reward(environments=played, source=rows)
    Grid.wrong = "no number"
    with pytest.raises(UsageError, match=r"expected a finite number of at most 1e\+18, or None, got 'much'"):
        reward(environments=[Box(), played[0]], source=rows)
    Grid.wrong = ""
    assert reward(environments=played, source=rows) == [0.5, 0.5]


def test_an_environment_that_cannot_be_made_is_named_with_its_number():
    made = []

    def few():
        made.append(1)
        if len(made) > 1:
            raise OSError("no more ports")
        return Box()

    environments = Environments({"few": few})
    with pytest.raises(UsageError, match=r"--environment, few: object 2: few\(\) failed: OSError: no more ports"):
        environments.take(2, "few")
    with pytest.raises(
        UsageError, match=r"Needy\(\) failed: TypeError: .* missing 1 required .*; it is called without"
    ):
        Environments(type("Needy", (Box,), {"__init__": lambda self, port: None}))


def test_checkpoints_keep_images_once_and_what_environments_showed(stage_of):
    stage = stage_of(environment=Box)
    stage.run([call("open", box=1), "red"], [call("open", box=1), "blue"])
    state = groups_to_state([stage.group])
    assert len(state["images"]) == 1

    def begin(key, shown):
        assert key == 3
        return stage.play.observed(replace(stage.groups[0], key=key), shown)

    (again,) = groups_from_state(state, begin=begin)
    assert again.prompt.ids == stage.group.prompt.ids
    assert again.prompt.image_digests == stage.group.prompt.image_digests
    ours, theirs = group_batch([stage.group]), group_batch([again])
    assert (ours.completions, ours.trained, ours.completion_images) == (
        theirs.completions,
        theirs.trained,
        theirs.completion_images,
    )
    for one, other in zip(ours.images, theirs.images, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert np.array_equal(np.array(again.observation[1]), np.array(stage.group.observation[1]))
    assert isinstance(again, RolloutGroup)
