"""The web pages of MiniWoB++, for ``--environment``: the model reads a page, clicks and writes on it.

The column ``task`` of a row names a page, such as ``click-test-2``, and the column ``seed`` says how it begins. The
pages are those of the package `miniwob`, of which nothing else is used. They are read from the disk; an own page server
is reached on this machine only.
"""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from PIL import Image

from triptych_trainer.environments.chromium import new_page
from triptych_trainer.errors import UsageError

__all__ = ["MiniWobEnvironment"]

PAGE_WIDTH, PAGE_HEIGHT = 160, 210
_BEGIN = """([seed, longest]) => {
    core.EPISODE_MAX_TIME = longest;
    Math.seedrandom(seed);
    core.startEpisodeReal();
    return core.getUtterance();
}"""
_STATE = "() => [WOB_DONE_GLOBAL, WOB_RAW_REWARD_GLOBAL]"
_LONGEST_MILLISECONDS = 2_000_000_000
"""The end of an episode: about 23 days of the page's own clock, which stops between two actions."""
_FRAMES = {
    "thousandths": "x and y are in thousandths of the picture's width and height.",
    "pixels": "x and y are in pixels of the picture.",
}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class MiniWobEnvironment:
    """Plays one episode of a page; a subclass may set its attributes.

    The page's clock runs only while an action is done, by ``action_milliseconds``: neither a slow model nor a busy
    machine changes a picture or a reward.
    """

    enlarge: ClassVar[int] = 2
    """Every pixel of the page of 160 x 210 becomes a square with this many pixels on each side."""
    frame: ClassVar[Literal["thousandths", "pixels"]] = "thousandths"
    """The unit of x and y of a click: thousandths of the picture, or pixels of the enlarged picture."""
    action_milliseconds: ClassVar[int] = 500
    server: ClassVar[str | None] = None
    """The address of a page server of this machine, such as ``http://127.0.0.1:8000/miniwob/``; None: the disk."""

    def __init__(self) -> None:
        self._page: Any = None
        self._reward = 0.0
        self.done = False

    def reset(self, task: str | None = None, seed: int | None = None) -> list[dict[str, Any]]:
        """Open a page, begin its episode and show it with what it asks for.

        Raises:
            UsageError: a column is missing, or there is no such page, or no browser to show it.
        """
        if task is None or seed is None:
            missing = "task" if task is None else "seed"
            raise UsageError(
                f"{self._owner}: the row has no column {missing!r}; give every row `task`, the name of a page such as "
                "click-test-2, and `seed`, a whole number"
            )
        address = self._address(task)
        if self._page is None:
            self._page = new_page(width=PAGE_WIDTH, height=PAGE_HEIGHT, owner=self._owner)
            self._page.clock.install(time=0)
        try:
            self._page.goto(address)
        except Exception as error:  # Playwright is an optional extra, and so are the names of its errors
            reason = str(error).strip().partition("\n")[0]
            raise UsageError(f"{self._owner}: the page {task} does not load ({reason}): {address}") from error
        asked = self._page.evaluate(_BEGIN, [str(int(seed)), _LONGEST_MILLISECONDS])
        self._page.clock.run_for(self.action_milliseconds)
        self.done = False
        asked = asked["utterance"] if isinstance(asked, dict) else asked
        return [self._picture(), {"type": "text", "text": f"{asked}\n{_FRAMES[self.frame]}"}]

    def click(self, x: float, y: float) -> list[dict[str, Any]]:
        """Click on the page.

        Args:
            x: Where, from the left, counted as the first message says.
            y: Where, from the top.
        """
        self._page.mouse.click(*self._place(x, y))
        return self._after()

    def drag(self, x: float, y: float, to_x: float, to_y: float) -> list[dict[str, Any]]:
        """Press the mouse at one place of the page and let it go at another.

        Args:
            x: Where it is pressed, from the left, counted as the first message says.
            y: Where it is pressed, from the top.
            to_x: Where it is let go, from the left.
            to_y: Where it is let go, from the top.
        """
        first, last = self._place(x, y), self._place(to_x, to_y)
        self._page.mouse.move(*first)
        self._page.mouse.down()
        self._page.mouse.move(*last, steps=4)
        self._page.mouse.up()
        return self._after()

    def write(self, text: str) -> list[dict[str, Any]]:
        """Write where the page's cursor is.

        Args:
            text: What to write.
        """
        self._open()
        self._page.keyboard.type(text)
        return self._after()

    def press(self, key: str) -> list[dict[str, Any]]:
        """Press a key.

        Args:
            key: Its name, such as Enter, Tab, Backspace, ArrowDown or Control+A.
        """
        self._open()
        try:
            self._page.keyboard.press(key)
        except Exception as error:
            raise ValueError(f"there is no key {key!r}") from error
        return self._after()

    def get_reward(self) -> float:
        """Return the page's reward without its deduction for time, or -1 for a page that was not finished."""
        return self._reward if self.done else -1.0

    @property
    def _owner(self) -> str:
        return type(self).__name__

    def _address(self, task: str) -> str:
        if self.server is not None:
            if urlsplit(self.server).hostname not in _LOOPBACK:
                raise UsageError(
                    f"{self._owner}: expected a page server of this machine, got {self.server}; "
                    f"its host must be {' or '.join(_LOOPBACK)}"
                )
            return f"{self.server.rstrip('/')}/{task}.html"
        folder = _pages(self._owner)
        path = folder / f"{task}.html"
        if not path.is_file() or path.parent != folder:
            known = sorted(page.stem for page in folder.glob("*.html"))
            raise UsageError(
                f"{self._owner}: there is no page {task!r}; there are {len(known)}, from {known[0]} to {known[-1]}, "
                f"in the folder html/miniwob of the package miniwob"
            )
        return path.as_uri()

    def _place(self, x: float, y: float) -> tuple[float, float]:
        """A place of the picture as a pixel of the page."""
        self._open()
        width, height = (
            (1000, 1000) if self.frame == "thousandths" else (PAGE_WIDTH * self.enlarge, PAGE_HEIGHT * self.enlarge)
        )
        if not (isinstance(x, (int, float)) and isinstance(y, (int, float)) and 0 <= x <= width and 0 <= y <= height):
            raise ValueError(f"x must lie within 0 and {width} and y within 0 and {height}, got {x} and {y}")
        return min(x * PAGE_WIDTH / width, PAGE_WIDTH - 1), min(y * PAGE_HEIGHT / height, PAGE_HEIGHT - 1)

    def _open(self) -> None:
        if self.done:
            raise ValueError("the page is finished")

    def _after(self) -> list[dict[str, Any]]:
        """What the page shows after an action."""
        self._page.clock.run_for(self.action_milliseconds)
        self.done, self._reward = self._page.evaluate(_STATE)
        told = [{"type": "text", "text": "The page is finished."}] if self.done else []
        return [self._picture(), *told]

    def _picture(self) -> dict[str, Any]:
        shot = self._page.screenshot(animations="disabled", caret="hide")
        picture = Image.open(io.BytesIO(shot)).convert("RGB")
        size = (picture.width * self.enlarge, picture.height * self.enlarge)
        return {"type": "image", "image": picture.resize(size, Image.Resampling.NEAREST)}


def _pages(owner: str) -> Path:
    """The folder of the pages, found without importing the package, which would import its own browser."""
    found = importlib.util.find_spec("miniwob")
    if found is None or found.origin is None:
        raise UsageError(
            f"{owner}: the package miniwob, whose pages it shows, is missing; install triptych-trainer[miniwob]"
        )
    return Path(found.origin).parent / "html" / "miniwob"
