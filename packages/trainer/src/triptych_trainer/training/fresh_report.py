"""The page of a run's rollouts, kept fresh while the run goes on."""

import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from transformers import TrainerCallback
from triptych_parser.printable import printable

from triptych_trainer.report import build_report
from triptych_trainer.rollouts.parts import FOLDER

__all__ = ["FreshReport"]

REPORT_EVERY_SECONDS = 120.0


class FreshReport(TrainerCallback):
    """Keeps ``report.html`` fresh while the run goes on: at most every two minutes and 5 % of the run's time."""

    def __init__(
        self,
        folder: Path,
        *,
        needs: Sequence[str] = (f"{FOLDER}/step-*.parquet",),
        write: Callable[[Path], object] | None = None,
    ) -> None:
        """Write the page of a folder once it contains a file that one of the patterns ``needs`` names.

        ``write`` takes the place of ``build_report``.
        """
        self.folder, self.needs, self.write = folder, needs, write or build_report
        self.next_build = time.monotonic() + REPORT_EVERY_SECONDS
        self.has_warned = False

    def on_step_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        """Rebuild the page when it is old."""
        if state.is_world_process_zero and time.monotonic() > self.next_build:
            self.build()

    def build(self) -> None:
        """Write the page; a run with nothing to show has none, and a page that cannot be written is no error."""
        if not any(any(self.folder.glob(pattern)) for pattern in self.needs):
            return
        started = time.monotonic()
        try:
            self.write(self.folder)
        except Exception as error:  # the page is a view of what is on disk: no fault of it may end a run
            self._warn(error)
        finally:
            ended = time.monotonic()
            self.next_build = ended + max(REPORT_EVERY_SECONDS, 20 * (ended - started))

    def _warn(self, error: Exception) -> None:
        if not self.has_warned:
            self.has_warned = True
            warnings.warn(
                printable(
                    f"{self.folder / 'report.html'} cannot be written ({type(error).__name__}: {error}); the run goes "
                    f"on, and `triptych report {self.folder}` builds the page later"
                ),
                RuntimeWarning,
                stacklevel=2,
            )
