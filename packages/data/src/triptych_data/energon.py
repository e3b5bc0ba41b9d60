"""Megatron-Energon as the source: object stores and many nodes are its work, prompts and pixels stay ours.

Needs the extra `energon`. The folder is prepared with its own tool, as `CrudeWebdataset`:
`energon prepare FOLDER --sample-type CrudeWebdataset ...`; its samples are laid out as in `triptych_data.rows.tar`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from triptych_data.example import Example
from triptych_data.images import ImageLoader
from triptych_data.loader import LoadedPrompt
from triptych_data.read import row_reader
from triptych_data.rows import Row
from triptych_data.rows.jsonl import parse_row

_VERSION = 1
_IMAGE_COLUMNS = ("image", "images")


class EnergonLoader:
    """Steps of prompts, read by Energon in its own order and share of the ranks; endless.

    `state_dict` holds Energon's state of this rank as it stood after the step that was taken last, whatever has been
    read ahead: save it with `torch.save`, one per rank, and restore it on the same number of ranks and workers (other
    numbers are `energon checkpoint`'s work).
    """

    def __init__(
        self,
        path: str | Path,
        *,
        images: ImageLoader,
        prompts_per_step: int,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        seed: int = 0,
        shuffle_buffer_size: int | None = None,
        format: str = "auto",
        steps_ahead: int = 1,
    ) -> None:
        if prompts_per_step < 1 or prompts_per_step % world:
            raise ValueError(f"expected prompts_per_step to be a multiple of the {world} ranks, got {prompts_per_step}")
        self.images = images
        self._share = prompts_per_step // world
        self._steps_ahead = steps_ahead
        self._read = row_reader(format=format)
        self._loader = _open(path, rank, world, workers, seed, shuffle_buffer_size)
        self._state: Any = None
        self._step = 0

    def __iter__(self) -> Iterator[tuple[LoadedPrompt, ...]]:
        samples = iter(self._loader)
        ahead: deque[tuple[list[Example], Any]] = deque()
        while True:
            while len(ahead) <= self._steps_ahead:
                examples = [self._example(next(samples)) for _ in range(self._share)]
                self.images.prefetch(examples)
                ahead.append((examples, self._loader.save_state_rank()))
            examples, state = ahead.popleft()
            first = self._step * self._share
            batch = tuple(
                LoadedPrompt(position=first + number, example=example, pixels=tuple(self.images.get_pixels(example)))
                for number, example in enumerate(examples)
            )
            self._step, self._state = self._step + 1, state
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """This rank's state after the step taken last."""
        return {"version": _VERSION, "step": self._step, "energon": self._state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue after the step at which `state` was taken; before iterating."""
        if state.get("version") != _VERSION:
            raise ValueError(f"expected loader state of version {_VERSION}, got {state.get('version')}")
        self._step, self._state = state["step"], state["energon"]
        self._loader.restore_state_rank(state["energon"])

    def _example(self, sample: Any) -> Example:
        source = sample.__sources__[0]
        files = [name.rpartition("/")[2] for name in source.file_names]
        place = f"{source.shard_name}:{source.index + 1}"
        values = parse_row(sample.parts["json"], source=place)
        packed = {name.partition(".")[2]: name for name in files if not name.endswith(".json")}
        images = {name: sample.parts[part] for part, name in packed.items() if part in sample.parts}
        packed_in = _with_bytes(values, images)
        return self._read(
            Row(values=packed_in, file=source.shard_name, source=place, index=source.index, folder=Path())
        )


def _with_bytes(values: Mapping[str, Any], images: Mapping[str, bytes]) -> dict[str, Any]:
    """The row with its images put in: those it names, or all of the sample where it names none."""
    for column in _IMAGE_COLUMNS:
        named = values.get(column)
        if named is not None:
            listed = named if isinstance(named, list) else [named]
            return {**values, column: [images.get(name, name) if isinstance(name, str) else name for name in listed]}
    if not images:
        return dict(values)
    column = "image" if "conversations" in values else "images"
    return {**values, column: list(images.values())}


def _open(path: str | Path, rank: int, world: int, workers: int, seed: int, shuffle_buffer_size: int | None) -> Any:
    try:
        from megatron import energon  # type: ignore[import-not-found]
    except ImportError as error:
        raise ImportError('EnergonLoader needs Megatron-Energon: pip install "triptych-data[energon]"') from error

    @energon.edataclass
    class Packed(energon.Sample):  # type: ignore[misc, name-defined]
        parts: dict

    @energon.stateless
    def cook(sample: dict[str, Any]) -> Any:
        parts = {name: value for name, value in sample.items() if not name.startswith("__")}
        return Packed(**energon.basic_sample_keys(sample), parts=parts)

    class Encoder(energon.DefaultTaskEncoder):  # type: ignore[misc, name-defined]
        decoder = None  # images stay encoded: the ImageLoader decodes each once
        cookers = (energon.Cooker(cook),)

        def encode_sample(self, sample: Any) -> Any:
            return sample

    config = energon.WorkerConfig(rank=rank, world_size=world, num_workers=workers, seed_offset=seed)
    dataset = energon.get_train_dataset(
        str(path),
        worker_config=config,
        batch_size=None,
        shuffle_buffer_size=shuffle_buffer_size,
        max_samples_per_sequence=None,
        task_encoder=Encoder(),
    )
    return energon.get_savable_loader(dataset, watchdog_timeout_seconds=None)
