"""Pages of MiniWoB++ as the recipe of this folder plays them."""

from typing import ClassVar

from triptych_trainer.environments.miniwob import MiniWobEnvironment


class MiniWob(MiniWobEnvironment):
    """A page of 160 x 210 pixels, shown at 320 x 420; places are in thousandths, as Qwen3-VL writes them."""

    enlarge: ClassVar[int] = 2
