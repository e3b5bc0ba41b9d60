"""One headless Chromium for all pages of a process, by Playwright; it cannot reach any other machine."""

from __future__ import annotations

import atexit
import os
import shutil
from contextlib import suppress
from typing import Any

from triptych_trainer.errors import UsageError

__all__ = ["new_page"]

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ONLY_LOOPBACK = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"
_running: dict[int, Any] = {}
"""The browser of each process, by the number of the process: a fork cannot use the browser of its parent."""


def new_page(*, width: int, height: int, owner: str) -> Any:
    """Open a page in a context of its own, with a window of the given size in pixels.

    Raises:
        UsageError: Playwright or Chromium is missing, or Chromium does not start.
    """
    if os.getpid() not in _running:
        _running[os.getpid()] = _launched(owner)
    context = _running[os.getpid()].new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    page.set_default_timeout(120_000)
    return page


def _launched(owner: str) -> Any:
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise UsageError(
            f"{owner}: playwright cannot be imported ({error}); install triptych-trainer[miniwob]"
        ) from error
    chromium = next((path for name in _NAMES if (path := shutil.which(name))), None)
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox refuses to run as root
    playwright = sync_playwright().start()
    atexit.register(_end, playwright)
    try:
        return playwright.chromium.launch(
            executable_path=chromium, args=["--headless", "--disable-gpu", _ONLY_LOOPBACK, *sandbox]
        )
    except Error as error:
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"{owner}: Chromium does not start ({reason}); install it, with `apt-get install chromium` or "
            "`playwright install chromium`"
        ) from error


def _end(playwright: Any) -> None:
    _running.clear()
    with suppress(Exception):  # the interpreter ends, and the browser with it
        playwright.stop()
