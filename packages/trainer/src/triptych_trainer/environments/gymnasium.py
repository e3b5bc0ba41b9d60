"""Any environment of Gymnasium that draws itself, for ``--environment``: the model acts, and gets a picture back.

    class Grid(GymnasiumEnvironment):
        make_options = {"tile_size": 28, "highlight": False}

The column ``env_id`` of a row names the environment, with the module that registers it if it is not Gymnasium's own:
``minigrid:MiniGrid-Empty-5x5-v0``. The column ``seed`` says how it begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from PIL import Image

from triptych_trainer.environments.actions import ActionSet, action_set
from triptych_trainer.errors import UsageError

__all__ = ["GymnasiumEnvironment"]


class GymnasiumEnvironment:
    """Plays an episode of an environment of Gymnasium with ``rgb_array`` pictures; a subclass may set attributes."""

    make_options: ClassVar[Mapping[str, Any]] = {}
    """Options for ``gymnasium.make`` in addition to the render mode."""
    action_names: ClassVar[Sequence[str] | None] = None
    """Names of discrete actions in their order; None: those that the environment has, or numbers."""
    actions_per_call: ClassVar[int] = 5
    """The most actions of one call that are done; a text says that the others were left out."""
    enlarge: ClassVar[int] = 1
    """Every pixel of the picture becomes a square with this many pixels on each side."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._env: Any = None
        self._actions: ActionSet | None = None
        self._reward, self._steps = 0.0, 0
        self.done = False

    def reset(self, env_id: str | None = None, seed: int | None = None) -> list[dict[str, Any]]:
        """Begin an episode and show its first picture, its texts and its actions.

        Raises:
            UsageError: a column is missing, or there is no such environment, or it draws no pictures.
        """
        if env_id is None or seed is None:
            missing = "env_id" if env_id is None else "seed"
            raise UsageError(
                f"{type(self).__name__}: the row has no column {missing!r}; give every row `env_id`, such as "
                "minigrid:MiniGrid-Empty-5x5-v0, and `seed`, a whole number"
            )
        if env_id != self._id:
            self._make(env_id)
        observation, _ = self._env.reset(seed=int(seed))
        self._reward, self._steps, self.done = 0.0, 0, False
        assert self._actions is not None
        told = [*observed_texts(observation), f"Actions: {self._actions.listed}."]
        return [self._picture(), {"type": "text", "text": "\n".join(told)}]

    def act(self, actions: list) -> list[dict[str, Any]]:
        """Do actions one after another and see what follows.

        Args:
            actions: The actions by name or by number, as the first message lists them.
        """
        assert self._actions is not None, "reset comes first"
        if self.done:
            raise ValueError("the episode is over")
        chosen = self._actions.read(actions, most=self.actions_per_call)
        before, texts = self._reward, []
        for action in chosen:
            observation, reward, terminated, truncated, _ = self._env.step(action)
            self._reward += float(reward)
            self._steps += 1
            texts = observed_texts(observation)
            if terminated or truncated:
                self.done = True
                texts.append("The episode is over." if terminated else "The episode is over: no steps are left.")
                break
        gained = self._reward - before
        if gained:
            texts.append(f"Reward: {gained:g}.")
        if len(actions) > len(chosen):
            texts.append(_left_out(len(chosen)))
        told = "\n".join(texts)
        return [self._picture(), *([{"type": "text", "text": told}] if told else [])]

    def get_reward(self) -> float:
        """Return the sum of the episode's rewards."""
        return self._reward

    def _make(self, env_id: str) -> None:
        gymnasium = _gymnasium()
        self._close()
        try:
            env = gymnasium.make(env_id, render_mode="rgb_array", **self.make_options)
        except Exception as error:  # packages that register environments fail in ways of their own
            reason = " ".join(str(error).split())
            raise UsageError(
                f"{type(self).__name__}: {env_id} cannot be made with render_mode='rgb_array' "
                f"({type(error).__name__}: {reason}); name an environment of `gymnasium.pprint_registry()`, with its "
                "module before a colon, and install what it needs"
            ) from error
        self._env, self._id = env, env_id
        self._actions = action_set(env, names=self.action_names, owner=f"{type(self).__name__}: {env_id}")

    def _picture(self) -> dict[str, Any]:
        frame = self._env.render()
        if getattr(frame, "ndim", None) != 3 or frame.shape[2] != 3 or str(frame.dtype) != "uint8":
            found = f"{getattr(frame, 'dtype', type(frame).__name__)} of shape {getattr(frame, 'shape', '?')}"
            raise UsageError(
                f"{type(self).__name__}: {self._id} drew {found}, expected a picture: uint8 of height x width x 3; "
                "wrap the environment so that its `render` returns one"
            )
        picture = Image.fromarray(frame)
        if self.enlarge > 1:
            size = (picture.width * self.enlarge, picture.height * self.enlarge)
            picture = picture.resize(size, Image.Resampling.NEAREST)
        return {"type": "image", "image": picture}

    def _close(self) -> None:
        if self._env is not None:
            self._env.close()
        self._env = self._id = None


def observed_texts(observation: Any) -> list[str]:
    """Return the texts of an observation: itself if it is a text, or its entries, such as MiniGrid's mission."""
    if isinstance(observation, str):
        return [observation]
    if not isinstance(observation, Mapping):
        return []
    return [f"{name}: {value}" for name, value in observation.items() if isinstance(value, str)]


def _gymnasium() -> Any:
    try:
        import gymnasium  # an optional extra
    except ImportError as error:
        raise UsageError(
            f"GymnasiumEnvironment: gymnasium cannot be imported ({error}); install triptych-trainer[gymnasium]"
        ) from error
    return gymnasium


def _left_out(num_done: int) -> str:
    return "Only the first action was done." if num_done == 1 else f"Only the first {num_done} actions were done."
