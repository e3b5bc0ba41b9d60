"""Every format, recognised by its columns or named, from every kind of file."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from triptych_data import DataError, load_image, probe_image, read_examples

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "mllm_demo.json"


def parts(example) -> list:
    order = iter(example.prompt.image_order)
    return [
        (message["role"], *(next(order) if part["type"] == "image" else part["text"] for part in message["content"]))
        for message in example.prompt.messages()
    ]


@pytest.fixture
def hf_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


SHAREGPT_TURNS = [
    {"from": "system", "value": "Be brief."},
    {"from": "human", "value": "<image> What?"},
    {"from": "gpt", "value": "A cat."},
    {"from": "human", "value": "And <image>?"},
    {"from": "gpt", "value": "A dog."},
]
EXPECTED_TURNS = [
    ("system", "Be brief."),
    ("user", 0, " What?"),
    ("assistant", "A cat."),
    ("user", "And ", 1, "?"),
]


def check_sharegpt(example) -> None:
    assert parts(example) == EXPECTED_TURNS
    assert example.answer == "A dog."
    assert example.extras == {"difficulty": 2}


def test_sharegpt_with_from_and_value(write_jsonl, pictures):
    path = write_jsonl([{"conversations": SHAREGPT_TURNS, "images": pictures[:2], "difficulty": 2}])
    check_sharegpt(read_examples(path)[0])
    check_sharegpt(read_examples(path, format="sharegpt")[0])


def test_sharegpt_with_role_and_content_and_a_system_column(write_jsonl, pictures):
    roles = {"human": "user", "gpt": "assistant"}
    turns = [{"role": roles[turn["from"]], "content": turn["value"]} for turn in SHAREGPT_TURNS[1:]]
    path = write_jsonl([{"messages": turns, "images": pictures[:2], "system": "Be brief.", "difficulty": 2}])
    check_sharegpt(read_examples(path)[0])


def test_sharegpt_with_names_from_dataset_info(write_jsonl, pictures, tmp_path):
    roles = {"system": "sys", "human": "Q", "gpt": "A"}
    turns = [{"who": roles[turn["from"]], "what": turn["value"]} for turn in SHAREGPT_TURNS]
    path = write_jsonl([{"dialog": turns, "pics": pictures[:2], "difficulty": 2}], name="odd.jsonl")
    with pytest.raises(DataError, match="expected the columns of one of vlm_r1.*got dialog, pics, difficulty"):
        read_examples(path)
    info = {
        "other": {"file_name": "other.jsonl"},
        "odd": {
            "file_name": "odd.jsonl",
            "formatting": "sharegpt",
            "columns": {"messages": "dialog", "images": "pics"},
            "tags": {
                "role_tag": "who",
                "content_tag": "what",
                "user_tag": "Q",
                "assistant_tag": "A",
                "system_tag": "sys",
            },
        },
    }
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    check_sharegpt(read_examples(path)[0])
    (tmp_path / "dataset_info.json").rename(tmp_path / "named.json")
    check_sharegpt(read_examples(path, dataset_info=tmp_path / "named.json")[0])


def test_sharegpt_counts_markers_over_all_prompt_turns(write_jsonl, pictures):
    path = write_jsonl([{"conversations": SHAREGPT_TURNS, "images": pictures[:3]}])
    with pytest.raises(DataError, match=r"image 3 has no marker \(expected 3 markers, got 2\)"):
        read_examples(path)
    path = write_jsonl([{"conversations": [{"from": "human", "value": "none"}], "images": pictures[:1]}])
    with pytest.raises(DataError, match=r"image 1 has no marker \(expected 1 markers, got 0\)"):
        read_examples(path)
    assert parts(read_examples(path, no_markers="first")[0]) == [("user", 0, "none")]


def test_an_unknown_role_names_the_known_ones(write_jsonl):
    path = write_jsonl([{"messages": [{"role": "robot", "content": "x"}]}])
    with pytest.raises(DataError, match="expected role to be one of user, assistant, system.*got 'robot'"):
        read_examples(path)


def test_swift_fills_objects_and_puts_unmarked_images_first(write_jsonl, pictures):
    objects = {"ref": ["cat", "dog"], "bbox": [[1, 2, 30, 40], [5, 6, 7.5, 8]]}
    turns = [
        {"role": "user", "content": "find <ref-object> and <ref-object>"},
        {"role": "assistant", "content": "<bbox> and <bbox>"},
    ]
    path = write_jsonl([{"messages": turns, "images": pictures[:2], "objects": objects, "extra": 1}])
    example = read_examples(path)[0]
    assert parts(example) == [("user", 0, 1, "find cat and dog")]
    assert example.answer == "[1, 2, 30, 40] and [5, 6, 7.5, 8]"
    assert example.extras == {"objects": objects, "extra": 1}
    turns[0]["content"] = "<ref-object>" * 3
    with pytest.raises(DataError, match="expected an entry of objects for every <ref-object>, got fewer"):
        read_examples(write_jsonl([{"messages": turns, "images": pictures[:1], "objects": objects}]))


def test_verl_and_easyr1(write_jsonl, pictures):
    path = write_jsonl(
        [
            {
                "prompt": [{"role": "user", "content": "<image>How many?"}],
                "images": [{"path": pictures[0]}],
                "reward_model": {"style": "rule", "ground_truth": 4},
                "data_source": "geo",
            },
            {"problem": "<image><image>Which?", "images": pictures[:2], "answer": "B"},
        ]
    )
    first, second = read_examples(path)
    assert parts(first) == [("user", 0, "How many?")]
    assert (first.answer, first.extras["data_source"]) == ("4", "geo")
    assert parts(second) == [("user", 0, 1, "Which?")]
    assert second.answer == "B"
    with pytest.raises(DataError, match="expected 1 markers, got 0"):
        read_examples(write_jsonl([{"problem": "none", "images": pictures[:1]}]))


def test_openai_parts_carry_their_images(write_jsonl, tmp_path, pictures):
    encoded = base64.b64encode((tmp_path / pictures[1]).read_bytes()).decode()
    content = [
        {"type": "text", "text": "<image> is text here. "},
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{encoded}"}},
        {"type": "text", "text": " or "},
        {"type": "image_url", "image_url": {"url": pictures[0]}},
    ]
    path = write_jsonl([{"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "ok"}]}])
    example = read_examples(path)[0]
    assert parts(example) == [("user", "<image> is text here. ", 0, " or ", 1)]
    assert example.answer == "ok"
    assert [probe_image(image) for image in example.images] == [(35, 50), (30, 40)]


def test_images_as_bytes_base64_and_limits_of_their_own(write_jsonl, tmp_path, pictures):
    encoded = base64.b64encode((tmp_path / pictures[0]).read_bytes()).decode()
    entry = {"path": pictures[1], "max_pixels": 5000}
    example = read_examples(write_jsonl([{"prompt": "<image><image>", "images": [encoded, entry]}]))[0]
    assert probe_image(example.images[0]) == (30, 40)
    assert example.images[1].max_pixels == 5000
    row = {"prompt": "<image><image>", "images": [pictures[0], entry], "max_pixels": 9000, "min_pixels": 784}
    first, second = read_examples(write_jsonl([row]))[0].images
    assert (first.min_pixels, first.max_pixels) == (784, 9000)
    assert (second.min_pixels, second.max_pixels) == (784, 5000)
    with pytest.raises(DataError, match="max_pixels to be a number of pixels, 1 or more, got 'many'; write a number"):
        read_examples(write_jsonl([{"prompt": "<image>", "images": [{"path": "x", "max_pixels": "many"}]}]))


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b'\xef\xbb\xbf{"prompt": "a"}\n{"prompt": "b"}\n', 2),
        (b'{"prompt": "a"}\r\n\r\n  \n{"prompt": "b"}\r\n', 2),
        ('{"prompt": "a\u2028b"}\n'.encode(), 1),
        (b'{"prompt": "a"}', 1),
        pytest.param(b'{"prompt": "' + b"x" * 12_000_000 + b'"}\n', 1, marks=pytest.mark.slow),
        (b'\xef\xbb\xbf [{"prompt": "a"}]', 1),
    ],
    ids=["BOM", "CRLF and blank", "U+2028", "no last newline", "12 MB line", "BOM array"],
)
def test_odd_but_good_files_are_read(tmp_path, data, count):
    (tmp_path / "rows.jsonl").write_bytes(data)
    assert len(read_examples(tmp_path / "rows.jsonl")) == count


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"prompt": "a"}\n{"prompt": "b', "it is the last line, the file may still be copying"),
        ('{"prompt": "naïve"}\n'.encode("latin-1"), "expected UTF-8, got byte 0xef at column 15"),
        ('{"prompt": "a"}\n'.encode("utf-16"), "this looks like UTF-16"),
        (b"\n \n", "the file contains no rows"),
        (b"", "the file contains no rows"),
        (b"\x1f\x8b\x08\x00", "the file is compressed; unpack it first"),
        (b"PAR1 but not really", "not a readable parquet file"),
    ],
    ids=["cut", "Latin-1", "UTF-16", "blank", "empty", "gzip", "parquet"],
)
def test_odd_and_bad_files_are_named(tmp_path, data, message, hf_cache):
    (tmp_path / "rows.jsonl").write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_examples(tmp_path / "rows.jsonl")


def test_a_late_change_of_type_is_no_matter(write_jsonl):
    rows = [{"prompt": "x", "id": index} for index in range(3000)] + [{"prompt": "x", "id": "s", "images": []}]
    examples = read_examples(write_jsonl(rows))
    assert [examples[-2].id, examples[-1].id] == ["2999", "s"]


def test_parquet_and_saved_datasets(tmp_path, pictures, draw, hf_cache):
    table = datasets.Dataset.from_list(
        [{"problem": "<image>?", "images": [draw(40, 30, seed=k)], "answer": str(k)} for k in range(3)]
    ).cast_column("images", datasets.List(datasets.Image()))
    table.to_parquet(tmp_path / "rows.parquet")
    table.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict(train=table, test=table.select([2])).save_to_disk(tmp_path / "splits")
    for source, split, count, name in (
        (tmp_path / "rows.parquet", "train", 3, "rows.parquet"),
        (tmp_path / "saved", "train", 3, "saved"),
        (tmp_path / "splits", "test", 1, "splits:test"),
        (tmp_path / "splits" / "test", "train", 1, "splits/test"),
    ):
        examples = read_examples(source, split=split)
        assert len(examples) == count
        last = examples[-1]
        assert last.source == f"{tmp_path / name}:{count}"
        assert last.answer == "2"
        assert np.array_equal(np.asarray(load_image(last.images[0])), np.asarray(draw(40, 30, seed=2)))
    (tmp_path / "plain").mkdir()
    table.to_parquet(tmp_path / "plain" / "train.parquet")
    assert [example.answer for example in read_examples(tmp_path / "plain")] == ["0", "1", "2"]
    with pytest.raises(DataError, match="split 'validation'"):
        read_examples(tmp_path / "splits", split="validation")


def test_a_list_of_files_is_one_dataset_whose_rows_keep_their_file(write_jsonl, pictures):
    first = write_jsonl([{"prompt": "a"}], name="a.jsonl")
    second = write_jsonl([{"prompt": "b"}, {"prompt": "<image>", "images": ["gone.png"]}], name="b.jsonl")
    with pytest.raises(DataError, match=r"b.jsonl:2: image 1 of 1"):
        read_examples([first, second])
    examples = read_examples([first, second], on_bad="skip", max_bad=1)
    assert [example.source for example in examples] == [f"{first}:1", f"{second}:1"]
    with pytest.raises(DataError, match="empty list"):
        read_examples([])


def test_a_format_can_be_named_and_an_unknown_one_is_refused(write_jsonl):
    path = write_jsonl([{"conversations": [{"from": "human", "value": "x"}], "images": []}])
    with pytest.raises(ValueError, match="expected format to be auto or one of vlm_r1, sharegpt"):
        read_examples(path, format="llava")
    assert read_examples(path, format="vlm_r1")[0].columns["images"] == []


@pytest.mark.skipif(not SAMPLE.exists(), reason="the sample data of another project is not here")
def test_the_sample_of_another_project():
    examples = read_examples(SAMPLE)
    assert len(examples) == 6
    assert examples[0].source == f"{SAMPLE}[0]"
    assert parts(examples[0]) == [
        ("user", 0, "Who are they?"),
        ("assistant", "They're Kane and Gretzka from Bayern Munich."),
        ("user", "What are they doing?", 0),
    ]
    assert len(examples[0].images) == 1  # the same file twice is one image at two markers
    assert examples[0].answer == "They are celebrating on the soccer field."
    assert {load_image(example.images[0]).width for example in examples} == {300}


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        pytest.param({"answer": True}, "true", id="a boolean"),
        pytest.param({"solution": {"text": "red"}}, "red", id="an object with one key"),
        pytest.param({"answer": {"answer": ["3", "three"]}}, '["3", "three"]', id="an object with a list"),
        pytest.param({"answers": {"value": 3}}, "3", id="an object in a column that may be an answer"),
        pytest.param({"answer": {"action": "type", "text": "hi"}}, '{"action": "type", "text": "hi"}', id="an object"),
        pytest.param({"answer": {"text": ""}}, "", id="an object that says nothing"),
        pytest.param({"answers": {"text": ["red"], "answer_start": [3]}}, None, id="columns that only may be answers"),
    ],
)
def test_objects_and_booleans_as_answers(write_jsonl, row, answer):
    (example,) = read_examples(write_jsonl([{"problem": "Colour?", **row}]))
    assert example.answer == answer
    assert example.columns.items() >= row.items()
