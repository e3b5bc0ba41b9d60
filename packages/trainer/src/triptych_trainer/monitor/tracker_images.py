"""The images of the last prompts as the model saw them, as small files that trackers can be pointed at."""

import hashlib
import io
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import gather_object
from PIL import Image
from triptych_data import ImageLoader
from triptych_data.resize import resize
from triptych_data.write_whole import write_whole

from triptych_trainer.prompts.prepare import PreparedPrompt
from triptych_trainer.rollouts.rollout import Rollout
from triptych_trainer.rollouts.turns import Shown, shown_images

__all__ = ["RowImages", "TrackerImages"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RowImages:
    """Contains the files of one rollout's images, as trackers show them."""

    prompt: tuple[str, ...]
    """In the order of the prompt's markers."""
    turns: tuple[str, ...] = ()
    """Those that tools and environments returned, in the order in which they came."""

    @property
    def paths(self) -> list[str]:
        """The files of the prompt and of the turns, in this order."""
        return [*self.prompt, *self.turns]


class TrackerImages:
    """Keeps images of the last generations as the model saw them, one file each, however many completions refer to it.

    Trackers take paths as well as pixels, and gathering a path from all ranks costs almost nothing. A file is removed
    when no kept row refers to it.
    """

    def __init__(self, folder: Path, *, loader: ImageLoader, rank: int, keep: int) -> None:
        """Write below ``folder`` and keep the images of the last ``keep`` rows of this rank."""
        self.folder = folder
        self.loader = loader
        self.rank = rank
        self.rows: deque[RowImages] = deque(maxlen=keep)
        """The files of the last rows of all ranks, as TRL keeps their prompts and completions."""
        self._own: deque[RowImages] = deque(maxlen=keep)
        self._known: dict[Any, str] = {}

    def gather(self, rollouts: Sequence[tuple[PreparedPrompt, Rollout]]) -> list[RowImages]:
        """Return the files of every rollout of every rank; called on all ranks."""
        written: dict[int, tuple[str, ...]] = {}
        rows = []
        for prompt, rollout in rollouts:
            if id(prompt) not in written:
                written[id(prompt)] = self._write(prompt)
            arrived = tuple(self._write_shown(shown) for shown in shown_images(rollout))
            rows.append(RowImages(prompt=written[id(prompt)], turns=arrived))
        self._own.extend(rows)
        self._forget()
        # Where nodes share no file system, the first one shows the images of its own rows.
        gathered = [RowImages(prompt=_there(row.prompt), turns=_there(row.turns)) for row in gather_object(rows)]
        self.rows.extend(gathered)
        return gathered

    def _write_shown(self, shown: Shown) -> str:
        """The file of an image that arrived, in the size in which the model saw it."""
        pixels_HWC = np.asarray(shown.picture.convert("RGB"))
        if shown.model_size is not None:
            pixels_HWC = resize(pixels_HWC, shown.model_size)
        path = self._save(pixels_HWC)
        self._known[path] = path
        return path

    def _write(self, prompt: PreparedPrompt) -> tuple[str, ...]:
        example = prompt.example
        keys = list(zip((source.key for source in example.images), prompt.model_sizes, strict=True))
        if any(key not in self._known for key in keys):
            pixels = self.loader.get_pixels(example, sizes=prompt.resized)
            for key, decoded in zip(keys, pixels, strict=True):
                if key not in self._known:
                    self._known[key] = self._save(resize(decoded, key[1]))
        return tuple(self._known[keys[image]] for image in example.prompt.image_order)

    def _save(self, pixels_HWC: Any) -> str:
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels_HWC)).save(buffer, format="PNG", compress_level=1)
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()[:24]
        path = self.folder / f"rank{self.rank:03d}-{digest}.png"
        write_whole(path, buffer.getvalue())
        return str(path)

    def _forget(self) -> None:
        kept = {path for row in self._own for path in row.paths}
        for path in set(self._known.values()) - kept:
            Path(path).unlink(missing_ok=True)
        self._known = {key: path for key, path in self._known.items() if path in kept}


def _there(paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(path for path in paths if Path(path).exists())
