"""The demo's files are ordinary VLM-R1 files that the data package reads."""

import json

import pytest
from PIL import Image
from triptych_data import load_image, read_examples
from triptych_trainer.demo import write_dataset
from triptych_trainer.demo.task import PLACEMENTS, make_sample


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_data_package_reads_what_the_demo_writes(tmp_path, placement):
    path = write_dataset(tmp_path, split="train", num_samples=9, seed=4, placement=placement)
    examples = read_examples(path, image_root=tmp_path / "images")
    assert len(examples) == 9
    for index, example in enumerate(examples):
        sample = make_sample(index, seed=4, split="train")
        assert (example.id, example.answer) == (sample.id, sample.answer)
        assert example.extras["kind"] == sample.kind
        assert example.prompt.image_order == tuple(range(len(sample.pictures)))
        shown = "".join("<image>" if part["type"] == "image" else part["text"] for part in parts_of(example))
        assert shown == sample.prompt(placement=placement)
        drawn = sample.images()
        assert [load_image(source).tobytes() for source in example.images] == [image.tobytes() for image in drawn]


def parts_of(example):
    (message,) = example.prompt.messages()
    return message["content"]


def test_a_split_is_written_the_same_every_time(tmp_path):
    first = write_dataset(tmp_path / "a", split="train", num_samples=6)
    second = write_dataset(tmp_path / "b", split="train", num_samples=6)
    assert first.read_bytes() == second.read_bytes()
    names = [name for line in first.read_text().splitlines() for name in json.loads(line)["image"]]
    assert len(set(names)) == len(names)
    for name in names:
        with Image.open(first.parent / "images" / name) as one, Image.open(second.parent / "images" / name) as other:
            assert one.tobytes() == other.tobytes()
