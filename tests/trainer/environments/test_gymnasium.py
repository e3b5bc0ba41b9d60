"""Environments of Gymnasium, the real ones: what the model sees, may do, and is told."""

from typing import ClassVar

import numpy as np
import pytest
from triptych_trainer.environments.gymnasium import GymnasiumEnvironment
from triptych_trainer.errors import UsageError
from triptych_trainer.trajectories.environments import Environments

gymnasium = pytest.importorskip("gymnasium", reason="gymnasium is not installed; `make env-check` tests with it")
pytest.importorskip("minigrid", reason="minigrid is not installed; `make env-check` tests with it")
EMPTY = "minigrid:MiniGrid-Empty-5x5-v0"


class Grid(GymnasiumEnvironment):
    make_options: ClassVar = {"tile_size": 28, "highlight": False}


@pytest.fixture
def grid():
    made = Grid()
    made.reset(EMPTY, 3)
    return made


def words(parts):
    return "\n".join(part["text"] for part in parts if part["type"] == "text")


def pixels(parts):
    (picture,) = [part["image"] for part in parts if part["type"] == "image"]
    return np.asarray(picture)


def test_an_episode_begins_with_picture_mission_and_actions_and_ends_with_its_reward():
    environments = Environments(Grid)
    pair = environments.take(2)
    assert list(environments.tools(pair[0])) == ["act"]
    picture, text = environments.reset(pair, {"env_id": EMPTY, "seed": 3, "answer": "x"}, where="rows.jsonl:1")
    assert picture.size == (140, 140)
    assert text == (
        "mission: get to the green goal square\n"
        "Actions: left (0), right (1), forward (2), pickup (3), drop (4), toggle (5), done (6)."
    )
    one, other = pair
    halfway = one.act(["forward", "forward"])
    assert not np.array_equal(pixels(halfway), np.asarray(picture))
    assert (one.done, one.get_reward()) == (False, 0.0)
    over = one.act([1, "2", " Forward "])
    assert words(over) == "mission: get to the green goal square\nThe episode is over.\nReward: 0.955."
    assert one.done
    assert one.get_reward() == pytest.approx(1 - 0.9 * 5 / 100)
    with pytest.raises(ValueError, match="the episode is over"):
        one.act(["left"])
    assert not other.done, "each rollout has its own"
    assert np.array_equal(pixels(one.reset(EMPTY, 3)), np.asarray(picture))
    assert (one.done, one.get_reward()) == (False, 0.0)


@pytest.mark.parametrize("action", ["jump", 7, -1, True, None, 1.5, ["left"], {"name": "left"}])
def test_an_action_that_does_not_exist_changes_nothing_and_is_answered_with_those_that_do(grid, action):
    with pytest.raises(ValueError, match=r"there is no action .*; nothing was done; the actions are left \(0\), "):
        grid.act(["forward", action])
    assert grid.get_reward() == 0
    assert np.array_equal(pixels(grid.act(["done"])), pixels(grid.reset(EMPTY, 3)))


@pytest.mark.parametrize("actions", ["forward", [], 2, None])
def test_actions_are_a_list(grid, actions):
    with pytest.raises(ValueError, match=r"actions must be a list of actions, got .*; the actions are left"):
        grid.act(actions)


def test_a_call_does_a_stated_number_of_actions(grid):
    class Slow(Grid):
        actions_per_call = 1
        enlarge = 2

    slow = Slow()
    assert pixels(slow.reset(EMPTY, 3)).shape == (280, 280, 3)
    told = slow.act(["forward", "left"])
    assert "Only the first action was done." in words(told)
    assert np.array_equal(pixels(told)[::2, ::2], pixels(grid.act(["forward"])))


def test_running_out_of_steps_ends_the_episode():
    class Short(Grid):
        make_options: ClassVar = {"tile_size": 28, "max_steps": 2}

    short = Short()
    short.reset(EMPTY, 0)
    told = short.act(["left", "left", "left"])
    assert "The episode is over: no steps are left." in words(told)
    assert short.done
    assert short.get_reward() == 0


class Drawn(gymnasium.Env):
    """An environment whose spaces a test may choose; it draws how often it was stepped."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 1}
    observation_space = gymnasium.spaces.Text(20)

    def __init__(self, space=None, frame=None, render_mode=None):
        self.action_space = space
        self.frame, self.render_mode, self.actions_done = frame, render_mode, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return "ready", {}

    def step(self, action):
        self.actions_done.append(action)
        return "moved", 0.5, False, False, {}

    def render(self):
        return np.full((4, 6, 3), len(self.actions_done), dtype=np.uint8) if self.frame is None else self.frame


@pytest.fixture
def drawn():
    """Make an adapter of an environment with the given spaces."""

    def make(**options):
        attributes = {name: options.pop(name) for name in ("action_names",) if name in options}
        gymnasium.registry.pop("Drawn-v0", None)
        gymnasium.register(id="Drawn-v0", entry_point=Drawn, disable_env_checker=True, order_enforce=False)
        kind = type("Adapter", (GymnasiumEnvironment,), {"make_options": options, **attributes})
        return kind()

    yield make
    gymnasium.registry.pop("Drawn-v0", None)


def test_actions_of_numbers_are_lists_of_them(drawn):
    spaces = gymnasium.spaces
    for space, good, bad in (
        (spaces.Box(-1, 1, (2,)), [0.5, -0.5], [0.5, 2]),
        (spaces.MultiDiscrete([2, 3]), [1, 2], [2, 2]),
        (spaces.MultiBinary(2), [1, 0], [1]),
    ):
        adapter = drawn(space=space)
        assert "lists of 2 numbers of " in words(adapter.reset("Drawn-v0", 0))
        assert words(adapter.act([good])) == "moved\nReward: 0.5."
        assert np.array_equal(adapter._env.unwrapped.actions_done[0], np.asarray(good, dtype=space.dtype))
        with pytest.raises(ValueError, match="there is no action"):
            adapter.act([good, bad])
        assert len(adapter._env.unwrapped.actions_done) == 1


def test_discrete_actions_may_begin_anywhere_and_have_names_of_their_own(drawn):
    space = gymnasium.spaces.Discrete(2, start=5)
    plain, named = drawn(space=space), drawn(space=space, action_names=("up", "down"))
    assert words(plain.reset("Drawn-v0", 0)) == "ready\nActions: 5, 6."
    assert words(named.reset("Drawn-v0", 0)) == "ready\nActions: up (5), down (6)."
    plain.act(["6"]), named.act(["Down", 5])
    assert plain._env.unwrapped.actions_done == [6]
    assert named._env.unwrapped.actions_done == [6, 5]


def test_what_cannot_be_played_is_refused_in_one_sentence(drawn):
    spaces = gymnasium.spaces
    with pytest.raises(UsageError, match=r"expected 2 action_names, one for each action, got 1"):
        drawn(space=spaces.Discrete(2), action_names=("up",)).reset("Drawn-v0", 0)
    with pytest.raises(
        UsageError, match=r"Drawn-v0: expected actions that are a number or a list of numbers, got Dict"
    ):
        drawn(space=spaces.Dict({"x": spaces.Discrete(2)})).reset("Drawn-v0", 0)
    with pytest.raises(
        UsageError, match=r"drew float64 of shape \(2, 2\), expected a picture: uint8 of height x width"
    ):
        drawn(space=spaces.Discrete(2), frame=np.zeros((2, 2))).reset("Drawn-v0", 0)
    with pytest.raises(UsageError, match=r"Nope-v0 cannot be made with render_mode='rgb_array' \(NameNotFound"):
        GymnasiumEnvironment().reset("minigrid:Nope-v0", 0)
    with pytest.raises(UsageError, match="the row has no column 'seed'; give every row `env_id`, such as minigrid:"):
        GymnasiumEnvironment().reset(EMPTY)
