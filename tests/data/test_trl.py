"""Stock TRL: its own sampler repeats every row, the loader decodes every image once."""

from __future__ import annotations

import datasets
import pytest
import torch
from triptych_data import DataError, ImageLoader, as_trl_dataset, read_examples
from trl.trainer.utils import RepeatSampler


@pytest.fixture
def examples(write_jsonl, pictures):
    rows = []
    for index in range(6):
        chosen = [pictures[(index + k) % 5] for k in range(index % 3)]
        rows.append({"prompt": f"{index} " + "<image>" * len(chosen), "images": chosen, "solution": str(index)})
    return read_examples(write_jsonl(rows))


def test_rows_are_what_trl_expects(examples):
    with ImageLoader() as images:
        table = as_trl_dataset(examples, images=images)
        assert isinstance(table, datasets.Dataset)
        assert len(table) == 6
        row = table[2]
        assert row["prompt"] == [
            {"role": "user", "content": [{"type": "text", "text": "2 "}, {"type": "image"}, {"type": "image"}]}
        ]
        assert [picture.size for picture in row["images"]] == [(60, 40), (70, 45)]
        assert (row["solution"], row["answer"], row["id"]) == ("2", "2", examples[2].id)
        assert table[0]["images"] == []


def test_an_image_at_two_markers_is_given_twice(write_jsonl, pictures):
    examples = read_examples(write_jsonl([{"prompt": "<image:1> <image:2> <image:1>", "images": pictures[:2]}]))
    with ImageLoader() as images:
        row = as_trl_dataset(examples, images=images)[0]
        assert [picture.size for picture in row["images"]] == [(40, 30), (50, 35), (40, 30)]
        assert images.decodes == 2


def test_a_column_that_trl_gives_to_rewards_itself_is_refused(write_jsonl):
    examples = read_examples(write_jsonl([{"id": 7, "prompt": "x", "answer": "y", "prompts": "mine"}]))
    with ImageLoader() as images, pytest.raises(DataError, match=r"\(id 7\): expected no column prompts, which TRL"):
        as_trl_dataset(examples, images=images)[0]


@pytest.mark.parametrize("steps_per_generation", [1, 4])
def test_one_decode_per_image_under_trls_sampler(examples, steps_per_generation):
    with ImageLoader() as images:
        table = as_trl_dataset(examples, images=images)
        sampler = RepeatSampler(table, mini_repeat_count=8, batch_size=2, repeat_count=steps_per_generation, seed=1)
        loader = torch.utils.data.DataLoader(table, batch_size=16, sampler=sampler, collate_fn=lambda rows: rows)
        seen = [row["id"] for batch in loader for row in batch]
        assert len(seen) == 6 * 8 * steps_per_generation
        assert set(seen) == {example.id for example in examples}
        assert images.decodes == 5
