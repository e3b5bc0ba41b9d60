"""What `check --fix` writes passes the same check again, from every kind of source."""

from __future__ import annotations

import io
import json
import tarfile

import datasets
import pytest
from triptych_data import load_image, read_examples
from triptych_data.check import main


def fixed(source, target, *options: str) -> list:
    """The examples of what was fixed, which passes the same check."""
    assert main([str(source), "--fix", str(target), "--workers", "1", *options]) in (0, 1)
    assert main([str(target), "--workers", "1", *options]) == 0
    return list(read_examples(target))


def pixels(example) -> list[bytes]:
    return [load_image(image).tobytes() for image in example.images]


def test_rows_whose_columns_are_renamed_pass_under_the_usual_names(write_jsonl, pictures, tmp_path):
    turns = [{"who": "Q", "what": "<image>?"}, {"who": "A", "what": "a cat"}]
    rows = [{"dialog": turns, "pics": pictures[:1], "intro": "Be brief.", "level": 3}, {"dialog": turns, "pics": []}]
    path = write_jsonl(rows, name="odd.jsonl")
    info = {
        "file_name": "odd.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "dialog", "images": "pics", "system": "intro"},
        "tags": {"role_tag": "who", "content_tag": "what", "user_tag": "Q", "assistant_tag": "A"},
    }
    (tmp_path / "dataset_info.json").write_text(json.dumps({"odd": info}))
    before = read_examples(path, on_bad="skip", max_bad=1)[0]
    (after,) = fixed(path, tmp_path / "clean.jsonl")
    assert after.prompt.pieces() == before.prompt.pieces() == [["Be brief."], [0, "?"]]
    assert (after.answer, after.extras) == (before.answer, before.extras) == ("a cat", {"level": 3})
    assert pixels(after) == pixels(before)


def test_bytes_of_a_table_become_data_addresses(tmp_path, draw):
    table = datasets.Dataset.from_list([{"prompt": "<image>?", "images": [draw(40, 30)], "answer": "x"}])
    table.to_parquet(tmp_path / "rows.parquet")
    (after,) = fixed(tmp_path / "rows.parquet", tmp_path / "clean.jsonl")
    assert pixels(after) == pixels(read_examples(tmp_path / "rows.parquet")[0])


def test_packed_images_become_data_addresses(tmp_path, draw, encode):
    members = {"0.json": b'{"prompt": "<image>?", "images": ["0.png"]}', "0.png": encode(draw(20, 10))}
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    (after,) = fixed(tmp_path / "shard.tar", tmp_path / "clean.jsonl")
    assert pixels(after) == pixels(read_examples(tmp_path / "shard.tar")[0])


def test_a_file_elsewhere_would_lose_its_images_and_is_refused_before_it_is_written(
    write_jsonl, pictures, tmp_path, capsys
):
    path = write_jsonl([{"prompt": "<image>?", "images": pictures[:1]}])
    (tmp_path / "sub").mkdir()
    target = tmp_path / "sub" / "clean.jsonl"
    assert main([str(path), "--fix", str(target)]) == 2
    printed = capsys.readouterr().err
    assert f"--fix: expected a file in {tmp_path}, where the images of {path}:1 are looked for" in printed
    assert not list((tmp_path / "sub").iterdir())
    assert main([str(path), "--fix", str(target), "--image_root", str(tmp_path)]) == 0
    assert main([str(target), "--image_root", str(tmp_path)]) == 0


@pytest.mark.parametrize("indent", [None, 1])
def test_an_array_becomes_lines(tmp_path, indent):
    rows = [{"prompt": "a", "answer": "1"}, {"nothing": 1}, {"prompt": "b", "answer": "2"}]
    (tmp_path / "rows.json").write_text(json.dumps(rows, indent=indent))
    after = fixed(tmp_path / "rows.json", tmp_path / "clean.jsonl")
    assert [example.answer for example in after] == ["1", "2"]
