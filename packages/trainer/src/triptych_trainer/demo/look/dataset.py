"""Write questions about boxes as the files a user would bring: a VLM-R1 JSONL next to a folder of PNG images."""

import json
from pathlib import Path

from triptych_trainer.demo.look.pictures import draw_overview
from triptych_trainer.demo.look.task import BoxSample, make_sample

__all__ = ["write_dataset"]


def write_dataset(folder: Path, *, split: str, num_samples: int, seed: int = 0) -> Path:
    """Write samples 0..num_samples-1 of a split to `folder/<split>.jsonl` and return that path.

    The overviews go to `folder/images/<split>/`. What is in the boxes is in columns, which the environment reads.
    """
    (folder / "images" / split).mkdir(parents=True, exist_ok=True)
    path = folder / f"{split}.jsonl"
    with path.open("w", encoding="utf-8") as lines:
        for index in range(num_samples):
            sample = make_sample(index, seed=seed, split=split)
            name = f"{split}/{sample.id}.png"
            draw_overview(sample.lids).save(folder / "images" / name)
            lines.write(json.dumps(_record(sample, image=name)) + "\n")
    return path


def _record(sample: BoxSample, *, image: str) -> dict[str, object]:
    return {
        "id": sample.id,
        "image": [image],
        "conversations": [
            {"from": "human", "value": f"<image> {sample.question}"},
            {"from": "gpt", "value": sample.answer},
        ],
        "kind": sample.kind,
        "accu_reward_method": "exact",
        "colours": [inside.colour for inside in sample.inside],
        "shapes": [inside.shape for inside in sample.inside],
    }
