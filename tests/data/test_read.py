"""Reading rows of 0, 1 and several images; each mistake is one line with file:line, id and remedy."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest
from PIL import Image
from triptych_data import DataError, Example, read_examples


def vlm_r1(prompt, image=None, answer="a", **more):
    row = {"conversations": [{"from": "human", "value": prompt}, {"from": "gpt", "value": answer}], **more}
    return row if image is None else {**row, "image": image}


def parts(example: Example) -> list:
    """The last turn's content with image parts replaced by image indexes."""
    order = iter(example.prompt.image_order)
    content = [part for message in example.prompt.messages() for part in message["content"]]
    return [next(order) if part["type"] == "image" else part["text"] for part in content]


def test_vlm_r1_rows_of_no_one_and_several_images(write_jsonl, pictures):
    path = write_jsonl(
        [
            vlm_r1("How many?", answer=7),
            vlm_r1("Before: <image> now?", "0.png", id=11),
            vlm_r1("A <image> B <image> C", ["1.jpg", "0.png"], accu_reward_method="choice", difficulty=3),
            vlm_r1("No markers", ["0.png", "1.jpg", "2.png"]),
        ]
    )
    examples = read_examples(path)
    assert len(examples) == 4
    assert parts(examples[0]) == ["How many?"]
    assert examples[0].answer == "7"
    assert parts(examples[1]) == ["Before: ", 0, " now?"]
    assert examples[1].id == "11"
    assert parts(examples[2]) == ["A ", 0, " B ", 1, " C"]
    assert [str(image) for image in examples[2].images] == ["1.jpg", "0.png"]
    assert examples[2].extras == {"accu_reward_method": "choice", "difficulty": 3}
    assert examples[2].source == f"{path}:3"
    assert parts(examples[3]) == [0, 1, 2, "No markers"]
    assert [example.id for example in examples[2:]] == [f"{path}:3", f"{path}:4"]


def test_an_image_given_twice_is_one_image_with_two_markers(write_jsonl, pictures):
    path = write_jsonl([vlm_r1("<image> x <image> y <image>", ["0.png", "1.jpg", "0.png"])])
    example = read_examples(path)[0]
    assert [str(image) for image in example.images] == ["0.png", "1.jpg"]
    assert example.prompt.image_order == (0, 1, 0)
    assert parts(example) == [0, " x ", 1, " y ", 0]


def test_named_images_from_a_list_and_from_a_mapping(write_jsonl, pictures):
    path = write_jsonl(
        [
            vlm_r1("<image:b> then <image:a>", [{"name": "a", "image": "0.png"}, {"name": "b", "image": "1.jpg"}]),
            vlm_r1("<image:b> then <image:a>", {"a": "0.png", "b": "1.jpg"}),
        ]
    )
    for example in read_examples(path):
        assert [image.name for image in example.images] == ["a", "b"]
        assert parts(example) == [1, " then ", 0]


def test_image_root_and_the_default_beside_the_file(write_jsonl, pictures, tmp_path):
    (tmp_path / "sub").mkdir()
    path = write_jsonl([vlm_r1("<image>", "0.png")], name="sub/train.jsonl")
    with pytest.raises(DataError, match="no such file below"):
        read_examples(path)
    assert len(read_examples(path, image_root=tmp_path)) == 1


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (vlm_r1("<image> and <image>", ["0.png", "1.jpg", "2.png"], id=42), "(expected 3 markers, got 2)"),
        (vlm_r1("<image> <image>", "0.png", id=42), "expected 2 images"),
        (vlm_r1("<image>", "gone.png", id=42), "image 1 of 1, gone.png: no such file below"),
        (
            vlm_r1("<image> <image>", ["0.png", 5], id=42),
            "expected image 2 as path, bytes or PIL image, got 5; give one path for each",
        ),
        (
            {"id": 42, "prompt": "<image>", "images": {"a": 1}},
            "expected image 1 (named 'a') as path, bytes or PIL image, got 1; give a path for each name of the object",
        ),
        (
            {"id": 42, "prompt": [{"role": "user", "content": "x"}, "y"]},
            "expected prompt to be a list of messages, got 'y' as entry 2 of 2; write each message as",
        ),
        ({"id": 42, "text_of": 1}, "or name the columns in dataset_info.json"),
    ],
)
def test_a_bad_row_is_one_line_with_place_id_and_remedy(write_jsonl, pictures, row, text):
    path = write_jsonl([vlm_r1("fine"), "", row])
    with pytest.raises(DataError) as caught:
        read_examples(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:3 (id 42): ")
    assert text in message
    assert "\n" not in message
    assert caught.value.remedy
    assert message.endswith(caught.value.remedy)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"a": 1', "not valid JSON, expecting ',' delimiter at column"),
        ('{"a": 1,}', "not valid JSON"),
        ("5", "expected a JSON object, got a number"),
        ("[1]", "expected a JSON object, got an array"),
        ('{"a": 1, "a": 2}', "key 'a' appears twice"),
        ('{"unknown": 1}', "expected the columns of one of"),
        ("[" * 100_000, "nested in at most 100 levels"),
    ],
)
def test_a_bad_line_names_its_line(write_jsonl, line, text):
    path = write_jsonl([vlm_r1("fine"), line, vlm_r1("fine")])
    with pytest.raises(DataError) as caught:
        read_examples(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_skip_leaves_bad_rows_out_and_stops_above_max_bad(write_jsonl, pictures):
    rows = [vlm_r1("<image>", "0.png") for _ in range(8)]
    rows[3] = vlm_r1("<image>", "gone.png")
    rows[5] = "{"
    path = write_jsonl(rows)
    listing = path.parent / "quarantine.jsonl"
    for _ in range(2):  # a second start lists no row again; a text names a file as well as a path does
        examples = read_examples(path, on_bad="skip", max_bad=2, quarantine=str(listing))
    assert [json.loads(line)["kind"] for line in listing.read_text().splitlines()] == ["missing", "json"]
    assert [example.source.rpartition(":")[2] for example in examples] == ["1", "2", "3", "5", "7", "8"]
    assert [error.source.rpartition(":")[2] for error in examples.bad] == ["4", "6"]
    with pytest.raises(DataError, match="expected at most 1 refused rows of 8, got 2"):
        read_examples(path, on_bad="skip", max_bad=1)


def trl_rows(pictures: list[str]) -> list[dict]:
    between = [{"type": "text", "text": "Left "}, {"type": "image"}, {"type": "text", "text": " right "}]
    return [
        {"prompt": [{"role": "user", "content": "plain"}], "images": [], "solution": "1", "level": 1},
        {"prompt": [{"role": "user", "content": "text only"}], "images": pictures[:2], "solution": "2", "level": 2},
        {
            "prompt": [
                {"role": "system", "content": [{"type": "text", "text": "Be brief. "}]},
                {"role": "user", "content": [*between, {"type": "image"}]},
            ],
            "images": pictures[:2],
            "solution": "3",
            "level": 3,
        },
    ]


def check_trl(examples) -> None:
    assert parts(examples[0]) == ["plain"]
    assert parts(examples[1]) == [0, 1, "text only"]
    assert parts(examples[2]) == ["Be brief. ", "Left ", 0, " right ", 1]
    assert [example.answer for example in examples] == ["1", "2", "3"]
    assert [example.extras["level"] for example in examples] == [1, 2, 3]
    assert [message["role"] for message in examples[2].prompt.messages()] == ["system", "user"]


def test_trl_conversational_rows_from_jsonl(write_jsonl, pictures):
    check_trl(read_examples(write_jsonl(trl_rows(pictures))))


def test_trl_conversational_rows_from_datasets(pictures, tmp_path):
    rows = trl_rows([str(tmp_path / name) for name in pictures])
    for row in rows:  # Arrow wants one type per column
        for message in row["prompt"]:
            if isinstance(message["content"], str):
                message["content"] = [{"type": "text", "text": message["content"]}]
    table = datasets.Dataset.from_list(rows)
    table = table.cast_column("images", datasets.List(datasets.Image()))
    examples = read_examples(table, image_root=tmp_path)
    check_trl(examples)
    assert examples[2].source == f"dataset@{table._fingerprint[:12]}:3"


def test_text_of_content_parts_is_not_searched_for_markers(write_jsonl, pictures):
    content = [{"type": "text", "text": "what is <image> in HTML? "}, {"type": "image"}]
    path = write_jsonl([{"prompt": [{"role": "user", "content": content}], "images": pictures[:1]}])
    assert parts(read_examples(path)[0]) == ["what is <image> in HTML? ", 0]


def test_pil_images_of_a_dataset_in_memory(draw):
    table = datasets.Dataset.from_list([{"prompt": "<image>", "image": draw()}])
    example = read_examples(table)[0]
    assert isinstance(example.images[0].ref, bytes)
    assert not isinstance(example.images[0].ref, Image.Image)


def test_slices_and_iteration_agree(write_jsonl, pictures):
    path = write_jsonl([vlm_r1(f"row {index}") for index in range(5)])
    examples = read_examples(Path(path))
    assert [parts(example) for example in examples[1:3]] == [["row 1"], ["row 2"]]
    assert [example.source for example in examples] == [examples[index].source for index in range(5)]
    assert examples[-1].source == f"{path}:5"
