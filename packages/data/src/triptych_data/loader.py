"""Steps of unique prompts with their pixels, ahead of the trainer, in an order that can be resumed to the sample."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from triptych_data.errors import DataError
from triptych_data.example import Example
from triptych_data.images import ImageLoader
from triptych_data.mixture import Mixture
from triptych_data.order import Order, mix
from triptych_data.pixels import Pixels
from triptych_data.quarantine import allowed, write_quarantined

_VERSION = 1
_MAX_ATTEMPTS = 100


class Fingerprinted(Protocol):
    """Examples that can say which data they are."""

    @property
    def fingerprint(self) -> str: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPrompt:
    """One unique prompt and its pixels (uint8 [height, width, 3] each); completions refer to it by index."""

    position: int
    example: Example
    pixels: tuple[Pixels, ...]


class Loader:
    """Iterate over steps: each gives this rank's share of `prompts_per_step` prompts.

    Which row stands at which position depends on (seed, position) and nothing else: not on ranks, threads or what went
    wrong. `state_dict` taken after a step resumes with the next one, on any number of ranks that divides the step.
    With `on_bad="skip"` an unusable row is replaced by a draw keyed by its position, written to `quarantine`, and the
    run stops above `max_bad` of them (a share of the rows, or a number from 1 on).
    """

    def __init__(
        self,
        examples: Fingerprinted,
        *,
        images: ImageLoader,
        prompts_per_step: int,
        rank: int = 0,
        world: int = 1,
        seed: int = 0,
        shuffle: bool = True,
        epochs: float | None = None,
        on_bad: Literal["stop", "skip"] = "stop",
        max_bad: float = 0.001,
        quarantine: Path | None = None,
        steps_ahead: int = 1,
    ) -> None:
        if prompts_per_step < 1 or prompts_per_step % world or not 0 <= rank < world:
            raise ValueError(
                f"expected prompts_per_step to be a multiple of the number of ranks and rank below it, "
                f"got {prompts_per_step} prompts, rank {rank} of {world}"
            )
        self.examples = examples
        self.images = images
        self.prompts_per_step = prompts_per_step
        self.rank, self.world = rank, world
        self.num_steps = None if epochs is None else math.ceil(epochs * len(examples) / prompts_per_step)
        self.refused: dict[str, str] = {}  # file:line -> reason
        self._order = Order(length=len(examples), seed=seed, shuffle=shuffle)
        self._on_bad = on_bad
        self._max_refused = allowed(max_bad, len(examples))
        self._quarantine = quarantine
        self._steps_ahead = steps_ahead
        self._step = 0

    def __iter__(self) -> Iterator[tuple[LoadedPrompt, ...]]:
        prefetched = self._step
        while self.num_steps is None or self._step < self.num_steps:
            last = self._step + self._steps_ahead
            if self.num_steps is not None:
                last = min(last, self.num_steps - 1)
            while prefetched <= last:
                self._prefetch(prefetched)
                prefetched += 1
            batch = tuple(self._load(position) for position in self._positions(self._step))
            self._step += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: small, JSON, the same on every rank but for the rows refused so far."""
        return {
            "version": _VERSION,
            "seed": self._order.seed,
            "shuffle": self._order.shuffle,
            "position": self._step * self.prompts_per_step,
            "epoch": self._step * self.prompts_per_step // len(self.examples),
            "fingerprint": self.fingerprint,
            "refused": dict(self.refused),
        }

    def load_state_dict(self, state: dict[str, Any], *, force: bool = False) -> None:
        """Continue where `state` was taken. ValueError where data, seed or pixels differ, unless forced."""
        if state.get("version") != _VERSION:
            raise ValueError(f"expected loader state of version {_VERSION}, got {state.get('version')}")
        wanted = {"seed": self._order.seed, "shuffle": self._order.shuffle, "fingerprint": self.fingerprint}
        differing = [name for name, value in wanted.items() if state[name] != value]
        if differing and not force:
            raise ValueError(
                "the data order cannot be resumed, this run differs in "
                + ", ".join(f"{name} (expected {state[name]}, got {wanted[name]})" for name in differing)
                + "; restore the former data and settings, or load with force=True"
            )
        if state["position"] % self.prompts_per_step:
            raise ValueError(
                f"expected prompts_per_step to divide position {state['position']}, got {self.prompts_per_step}"
            )
        self._step = state["position"] // self.prompts_per_step
        self.refused = dict(state["refused"])

    @property
    def fingerprint(self) -> str:
        """A digest of the rows and of everything that decides which pixels they give."""
        vision = self.images.vision
        settings = {
            "policy": {name: str(value) for name, value in asdict(self.images.policy).items() if name in _PIXELS},
            "vision": None if vision is None else [vision.factor, vision.min_pixels, vision.max_pixels],
            "budget": None if self.images.budget is None else asdict(self.images.budget),
        }
        text = json.dumps([self.examples.fingerprint, settings], sort_keys=True)
        return f"{mix(*text.encode()):016x}"

    def _positions(self, step: int) -> range:
        share = self.prompts_per_step // self.world
        first = step * self.prompts_per_step + self.rank * share
        return range(first, first + share)

    def _example(self, position: int, attempt: int = 0) -> Example:
        row = self._order(position) if attempt == 0 else self._order.instead(position, attempt)
        if isinstance(self.examples, Mixture):
            return self.examples.in_epoch(row, epoch=position // len(self.examples))
        return self.examples[row]

    def _prefetch(self, step: int) -> None:
        for position in self._positions(step):
            with contextlib.suppress(DataError):  # it is met again, and judged, when its turn comes
                example = self._example(position)
                if example.source not in self.refused:
                    self.images.prefetch([example])

    def _load(self, position: int) -> LoadedPrompt:
        for attempt in range(_MAX_ATTEMPTS):
            try:
                example = self._example(position, attempt)
                if example.source in self.refused:
                    continue
                pixels = tuple(self.images.get_pixels(example))
                return LoadedPrompt(position=position, example=example, pixels=pixels)
            except DataError as error:
                self._refuse(error)
        raise DataError(
            f"expected a usable row within {_MAX_ATTEMPTS} draws, got none",
            source=f"position {position}",
            remedy="run `triptych check --decode` on the dataset",
        )

    def _refuse(self, error: DataError) -> None:
        if self._on_bad == "stop" or error.kind == "io":
            raise error
        if error.source in self.refused:
            return
        self.refused[error.source] = error.reason
        if self._quarantine is not None:
            write_quarantined(self._quarantine, error)
        if len(self.refused) > self._max_refused:
            raise DataError(
                f"expected at most {self._max_refused:g} refused rows, got {len(self.refused)}; "
                f"the last: {error.reason}",
                source=error.source,
                id=error.id,
                remedy="run `triptych check --decode` on the dataset, or raise max_bad",
                kind=error.kind,
            ) from error


_PIXELS = ("animated", "exif", "background", "formats", "max_image_pixels")
