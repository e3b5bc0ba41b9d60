"""Types of a dataset's columns, however deep they are: files stay encoded, and values are written as they were."""

from __future__ import annotations

import datasets
import pytest
from datasets import ClassLabel, Features, LargeList, List, Value
from PIL import Image
from triptych_data import DataError, read_examples

PETS = ClassLabel(names=["cat", "dog"])
PROMPT = {"prompt": Value("string")}


def table(features: dict, **columns: list) -> datasets.Dataset:
    return datasets.Dataset.from_dict(columns, features=Features({**PROMPT, **features}))


@pytest.mark.parametrize(
    ("feature", "value", "expected"),
    [
        (PETS, 1, "dog"),
        (PETS, -1, None),
        (List(PETS), [1, 0], ["dog", "cat"]),
        ({"ground_truth": PETS}, {"ground_truth": 1}, {"ground_truth": "dog"}),
        (List({"kind": PETS, "size": Value("float32")}), [{"kind": 1, "size": 0.1}], [{"kind": "dog", "size": 0.1}]),
        (Value("float32"), 0.1, 0.1),
        (Value("float16"), 0.1, 0.1),
        (Value("float64"), 0.1, 0.1),
    ],
    ids=str,
)
def test_a_value_is_what_was_written(feature, value, expected):
    assert read_examples(table({"truth": feature}, prompt=["x"], truth=[value]))[0].columns["truth"] == expected


@pytest.mark.parametrize("kind", [List, LargeList])
def test_images_of_every_list_stay_encoded(kind):
    pictures = [Image.new("RGB", (8, 6)), Image.new("RGB", (10, 6))]
    example = read_examples(table({"images": kind(datasets.Image())}, prompt=["<image><image>"], images=[pictures]))[0]
    assert [type(image.ref) for image in example.images] == [bytes, bytes]


@pytest.mark.parametrize("feature", [datasets.Image(mode="L"), List(datasets.Image(mode="1"))])
def test_a_mode_that_changes_colours_is_refused(feature):
    with pytest.raises(
        DataError, match=r"got Image\(mode='[L1]'\) for image; convert the images .*cast_column\('image'"
    ):
        read_examples(table({"image": feature}, prompt=["x"], image=[None]))
