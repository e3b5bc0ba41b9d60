"""Write demo samples as files that a user could have: a VLM-R1 JSONL file and a folder of PNG images."""

import json
from collections.abc import Sequence
from pathlib import Path

from .task import Placement, Sample, make_sample


def write_dataset(
    folder: Path, *, split: str, num_samples: int, seed: int = 0, placement: Placement = "in_place"
) -> Path:
    """Write samples 0..num_samples-1 of a split to `folder/<split>.jsonl` and return that path.

    Images go to `folder/images/<split>/`; the records name them relative to `folder/images`, which is the image
    root to read them with.
    """
    samples = [make_sample(index, seed=seed, split=split) for index in range(num_samples)]
    return write_samples(folder, samples=samples, split=split, placement=placement)


def write_samples(folder: Path, *, samples: Sequence[Sample], split: str, placement: Placement = "in_place") -> Path:
    """Write the given samples to `folder/<split>.jsonl` with their images and return that path."""
    (folder / "images" / split).mkdir(parents=True, exist_ok=True)
    path = folder / f"{split}.jsonl"
    with path.open("w", encoding="utf-8") as lines:
        for sample in samples:
            names = [f"{split}/{sample.id}-{k}.png" for k in range(1, len(sample.pictures) + 1)]
            for name, image in zip(names, sample.images(), strict=True):
                image.save(folder / "images" / name)
            lines.write(json.dumps(vlm_r1_record(sample, image_names=names, placement=placement)) + "\n")
    return path


def vlm_r1_record(sample: Sample, *, image_names: Sequence[str], placement: Placement) -> dict[str, object]:
    """Return the sample as one VLM-R1 record; `kind` is an extra key that reaches the rewards."""
    return {
        "id": sample.id,
        "image": list(image_names),
        "conversations": [
            {"from": "human", "value": sample.prompt(placement=placement)},
            {"from": "gpt", "value": sample.answer},
        ],
        "kind": sample.kind,
    }
