"""Datasets as scripts for TRL pass them: formats, columns of images, and what is refused with a remedy."""

import re

import datasets
import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from triptych_data import DataError
from triptych_trainer.errors import UsageError
from triptych_trainer.prompts.dataset_table import DatasetTable

MESSAGES = [[{"role": "user", "content": f"Which of {k} ?"}] for k in range(2)]
PICTURES = [Image.new("RGB", (56, 28), (60 * k, 9, 9)) for k in range(2)]


def rows(**columns):
    return Dataset.from_dict({"prompt": MESSAGES, "images": [[picture] for picture in PICTURES], **columns})


def table(dataset, **options):
    return DatasetTable(dataset, name="train_dataset", **options)


@pytest.mark.parametrize(("kind", "made"), [("torch", torch.Tensor), ("numpy", np.generic)])
def test_a_format_concerns_the_columns_that_rewards_get_and_not_prompts_and_images(kind, made):
    found = table(rows(level=[3, 4]).with_format(kind))
    plain = table(rows(level=[3, 4]))
    for row in range(2):
        assert found.prompt(row) == plain.prompt(row)
        assert found.example(row).images == plain.example(row).images
        columns = found.columns(row)
        assert isinstance(columns["level"], made)
        assert columns["level"] == 3 + row
        assert columns["images"][0].getpixel((0, 0)) == (60 * row, 9, 9)


@pytest.mark.parametrize(
    "columns",
    [
        {"system": "Be brief."},  # it was put before the prompt, where TRL only gives it to rewards
        {"question": "Another text ?"},
        {"context": "A text of its own."},
        {"messages": "no list"},
        {"image_path": "elsewhere.png"},
        {"video": "film.mp4"},
        {"options": ["red", "blue"], "answer": "green"},
        {"answer": "red", "solution": "blue"},
        {"answer": {"value": "red", "aliases": ["rot"]}},
        {"objects": {"bbox": [[1, 2, 3, 4]]}},
    ],
)
def test_beside_a_prompt_every_other_column_is_only_for_rewards(columns):
    """A data file with such a row is refused, or read as more than its prompt: TRL's columns are two."""
    found, plain = table(rows(**{name: [value] * 2 for name, value in columns.items()})), table(rows())
    assert found.prompt(1) == plain.prompt(1)
    assert found.example(1).prompt == plain.example(1).prompt
    assert {name: found.columns(1)[name] for name in columns} == columns


@pytest.mark.parametrize(
    ("columns", "answer"),
    [({"solution": "red"}, "red"), ({"ground_truth": "red", "solution": "blue"}, None), ({"gt": "red"}, "red")],
)
def test_an_answer_is_known_to_built_in_rewards_if_the_columns_give_one(columns, answer):
    found = table(rows(**{name: [value] * 2 for name, value in columns.items()})).columns(0)
    assert found["answer"] == answer


def test_parts_have_the_empty_keys_that_arrow_gives_them():
    content = [{"type": "image"}, {"type": "text", "text": "or"}, {"type": "image"}]
    data = Dataset.from_dict({"prompt": [[{"role": "user", "content": content}]], "images": [PICTURES]})
    assert table(data).prompt(0) == data[0]["prompt"]
    assert table(data).prompt(0)[0]["content"][0] == {"type": "image", "text": None}


@pytest.mark.parametrize("path", [None, "gone.png"])
def test_an_image_column_without_bytes_is_no_image_or_a_file(path, tmp_path):
    names = [None if path is None else str(tmp_path / path)] * 2
    column = Dataset.from_dict({"image": names}).cast_column("image", datasets.Image()).data.column("image")
    data = Dataset.from_dict({"prompt": MESSAGES}).add_column("image", [{"bytes": None, "path": names[0]}] * 2)
    assert column.null_count == (2 if path is None else 0)
    if path is None:
        assert table(data).example(0).images == ()
        return
    with pytest.raises(
        DataError, match=r"train_dataset\[0\]: an image of the row cannot be read: .*gone.png'; correct"
    ):
        table(data).example(0)
    PICTURES[0].save(names[0])
    assert len(table(data).example(0).images) == 1


def test_an_image_column_whose_mode_changes_colours_is_refused():
    grey = rows().cast_column("images", datasets.List(datasets.Image(mode="L")))
    with pytest.raises(DataError, match=r"train_dataset: .* got Image\(mode='L'\) for images; convert the images"):
        table(grey)


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (datasets.DatasetDict(train=rows(), test=rows()), "got DatasetDict; pass one of its parts: 'train', 'test'"),
        ([{"prompt": "a"}], "got list; make a dataset of it, with datasets.Dataset.from_list or from_generator"),
        (
            rows().with_format("pandas"),
            "got the format pandas, whose rows are tables; pass the dataset with_format(None)",
        ),
        (rows().with_format("arrow"), "got the format arrow"),
    ],
    ids=["parts", "list", "pandas", "arrow"],
)
def test_what_is_no_dataset_of_rows_is_refused_with_a_remedy(dataset, expected):
    with pytest.raises(UsageError, match=re.escape(expected)):
        table(dataset)


@pytest.mark.parametrize("nothing", [None, "", []], ids=["null", "text", "messages"])
def test_a_row_without_a_prompt_says_which_column_is_empty(nothing):
    prompts = [MESSAGES[0], nothing] if nothing == [] else ["a", nothing]
    expected = (
        "expected a text or an image from the user" if nothing == "" else "expected a prompt, got nothing in prompt"
    )
    with pytest.raises(DataError, match=rf"train_dataset\[1\]: {expected}"):
        table(Dataset.from_dict({"prompt": prompts})).example(1)
