"""Names of data: files, patterns, folders of shards, splits and addresses; what exists is never something else."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest
from triptych_data import DataError, read_examples
from triptych_data.rows.names import meant


def write(path: Path, *prompts: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))


def write_parquet(path: Path, *prompts: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list([{"prompt": prompt} for prompt in prompts]).to_parquet(path)


def rows_of(name: object) -> list[tuple[str, str]]:
    """(place, prompt) of each row."""
    examples = read_examples(name)
    return [(example.source, example.prompt.prompt.turns[0].raw[0]) for example in examples]


def test_a_pattern_means_its_files_in_the_order_of_their_names(tmp_path):
    write(tmp_path / "b.jsonl", "2")
    write(tmp_path / "a.jsonl", "0", "1")
    write(tmp_path / "c.txt", "no")
    expected = [(f"{tmp_path}/a.jsonl:1", "0"), (f"{tmp_path}/a.jsonl:2", "1"), (f"{tmp_path}/b.jsonl:1", "2")]
    assert rows_of(str(tmp_path / "*.jsonl")) == expected
    assert rows_of(str(tmp_path / "[ab].json*")) == expected
    with pytest.raises(DataError, match="no file has such a name"):
        read_examples(str(tmp_path / "*.parquet"))


def test_a_folder_of_shards_is_one_table_and_each_row_names_its_shard(tmp_path):
    write(tmp_path / "lines" / "0.jsonl", "0")
    write(tmp_path / "lines" / "1.jsonl", "1")
    assert [place for place, _ in rows_of(tmp_path / "lines")] == [f"{tmp_path}/lines/{n}.jsonl:1" for n in (0, 1)]
    for number in range(2):
        write_parquet(tmp_path / "tables" / f"{number}.parquet", f"{number}a", f"{number}b")
    expected = [
        (f"{tmp_path}/tables/{number}.parquet:{row + 1}", f"{number}{letter}")
        for number in range(2)
        for row, letter in enumerate("ab")
    ]
    assert rows_of(str(tmp_path / "tables" / "*.parquet")) == expected


def test_a_split_stands_behind_the_name_of_its_folder(tmp_path):
    write_parquet(tmp_path / "set" / "data" / "train-0.parquet", "trained")
    write_parquet(tmp_path / "set" / "data" / "test-0.parquet", "tested")
    assert [prompt for _, prompt in rows_of(tmp_path / "set")] == ["trained"]
    assert [prompt for _, prompt in rows_of(f"{tmp_path / 'set'}:test")] == ["tested"]


def test_what_exists_is_never_taken_for_something_else(tmp_path):
    for name in ("a:test", "[ab]*.jsonl", "a"):
        write(tmp_path / name, name)
        assert [prompt for _, prompt in rows_of(str(tmp_path / name))] == [name]
    (tmp_path / "set").mkdir()
    write(tmp_path / "set:test", "file")
    assert meant(tmp_path / "set:test").kind == "file"


@pytest.mark.parametrize(
    ("name", "kind", "split"),
    [
        ("owner/set", "hub", None),
        ("owner/set:test", "hub", "test"),
        ("s3://bucket/rows-*.parquet", "address", None),
        ("hf://datasets/owner/set/train.parquet", "address", None),
        ("folder/*.jsonl", "pattern", None),
    ],
)
def test_names_of_what_is_elsewhere(name, kind, split):
    found = meant(name)
    assert (found.kind, found.split) == (kind, split)


@pytest.mark.parametrize("name", ["gone.jsonl", "folder/gone.parquet", "gone", "gone:test", "gone.jsonl:3"])
def test_a_name_of_nothing_is_refused(name):
    with pytest.raises(DataError, match=r"no such file; correct it; it is looked for from /"):
        meant(name)


def test_an_address_of_parquet_files_is_read_through_fsspec(tmp_path):
    write_parquet(tmp_path / "rows.parquet", "far")
    address = f"file://{tmp_path / 'rows.parquet'}"
    assert rows_of(address) == [(f"{address}:1", "far")]
    with pytest.raises(DataError, match="expected an address of parquet files"):
        read_examples("s3://bucket/rows.jsonl")


def saved(folder, *names):
    """A folder of `save_to_disk`, of one dataset or of one for each name of a split."""
    table = datasets.Dataset.from_list([{"prompt": "x", "id": "a"}])
    splits = {name: datasets.Dataset.from_list([{"prompt": name, "id": "a"}], split=name) for name in names}
    (datasets.DatasetDict(splits) if names else table).save_to_disk(folder)
    return folder


def test_a_source_names_the_split_that_its_row_is_of(tmp_path):
    splits, alone = saved(tmp_path / "splits", "train", "test"), saved(tmp_path / "alone")
    for name, source in (
        (splits, f"{splits}:train:1"),
        (f"{splits}:test", f"{splits}:test:1"),
        (splits / "test", f"{splits / 'test'}:test:1"),
        (f"{splits / 'test'}:test", f"{splits / 'test'}:test:1"),
        (alone, f"{alone}:1"),
    ):
        assert [example.source for example in read_examples(name)] == [source]


@pytest.mark.parametrize(
    ("kind", "got"),
    [
        ("alone", "got one that has no splits"),
        ("splits/train", "got one that has only its split 'train'"),
        ("files", r"got a folder of files \(0.jsonl to 1.jsonl\)"),
    ],
)
def test_a_split_that_is_not_there_is_refused_and_no_other_rows_are_read(tmp_path, kind, got):
    """`saved:test` was read as the whole of what was saved, also as the rows of an evaluation."""
    saved(tmp_path / "splits", "train", "test"), saved(tmp_path / "alone")
    (tmp_path / "files").mkdir()
    for name in ("0", "1"):
        (tmp_path / "files" / f"{name}.jsonl").write_text('{"prompt": "x"}\n')
    with pytest.raises(DataError, match=got) as caught:
        read_examples(f"{tmp_path / kind}:test")
    assert ":test" in caught.value.remedy
    assert len(read_examples(tmp_path / kind)) > 0, "the remedy"
