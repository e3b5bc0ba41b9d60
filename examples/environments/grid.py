"""MiniGrid as the recipe of this folder plays it."""

from collections.abc import Mapping
from typing import Any, ClassVar

from triptych_trainer.environments.gymnasium import GymnasiumEnvironment


class MiniGrid(GymnasiumEnvironment):
    """A grid whose cells are 28 pixels wide: one image token each for Qwen2.5-VL, a little less for Qwen3-VL."""

    make_options: ClassVar[Mapping[str, Any]] = {"tile_size": 28, "highlight": False}
    actions_per_call: ClassVar[int] = 3
