"""Sets of shards that are not whole, and folders of which a part would not be read."""

import json
from pathlib import Path

import datasets
import pytest
from triptych_data import DataError
from triptych_data.rows.open import open_rows
from triptych_data.rows.shards import check_whole_sets

ROW = {"problem": "q", "solution": "a"}


def write(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(json.dumps([ROW]) if name.endswith(".json") else json.dumps(ROW) + "\n")
    return folder


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["train-00000-of-00002.jsonl"], "expected 2 shards, got 1: train-00001-of-00002.jsonl is missing; copy it"),
        (["a-0-of-3.tar", "a-2-of-3.tar"], "expected 3 shards, got 2: a-1-of-3.tar is missing"),
        (["a-1-of-4.jsonl"], "expected 4 shards, got 1: a-0-of-4.jsonl and 2 more are missing"),
        (["a-00004-of-00004.jsonl"], "expected 4 shards, got 1: a-00001-of-00004.jsonl and 2 more are missing"),
        (["a-0-of-1.jsonl", "a-0-of-2.jsonl"], r"expected one set of shards, got 1 of 1 and 1 of 2; .*\*-of-2.jsonl"),
    ],
)
def test_a_part_of_a_set_is_refused(names, said, tmp_path):
    with pytest.raises(DataError, match=said):
        check_whole_sets([tmp_path / name for name in names])


@pytest.mark.parametrize(
    "names",
    [
        ["a-0-of-2.jsonl", "a-1-of-2.jsonl", "b-00000-of-00001.jsonl"],
        ["a-1-of-2.jsonl", "a-2-of-2.jsonl"],
        ["a-000000.tar", "a-000002.tar"],
        ["x/a-0-of-1.jsonl", "y/a-0-of-2.jsonl", "y/a-1-of-2.jsonl"],
        ["one-of-two.jsonl"],
    ],
)
def test_a_whole_set_passes(names, tmp_path):
    check_whole_sets([tmp_path / name for name in names])


def test_a_folder_a_pattern_and_a_dataset_are_compared_and_what_a_pattern_leaves_out_is_meant(tmp_path):
    write(tmp_path, "a-0-of-3.jsonl", "a-1-of-3.jsonl")
    for name in (tmp_path, tmp_path / "*.jsonl"):
        with pytest.raises(DataError, match=r"a-\*.jsonl: expected 3 shards, got 2: a-2-of-3.jsonl is missing"):
            open_rows(str(name))
    write(tmp_path, "a-2-of-3.jsonl")
    assert len(open_rows(str(tmp_path))) == 3
    assert len(open_rows(str(tmp_path / "a-[01]*.jsonl"))) == 2
    (tmp_path / "hub" / "data").mkdir(parents=True)
    for name in ("train-00000-of-00002", "test-00000-of-00001"):
        datasets.Dataset.from_list([ROW]).to_parquet(tmp_path / "hub" / "data" / f"{name}.parquet")
    with pytest.raises(DataError, match=r"train-\*.parquet: expected 2 shards, got 1: train-00001-of-00002.parquet"):
        open_rows(str(tmp_path / "hub"))
    assert len(open_rows(f"{tmp_path}/hub:test")) == 1


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.jsonl", "b.parquet"], "got b.parquet next to a.jsonl, which would not be read"),
        (["a.jsonl", "b.jsonl.gz"], "got b.jsonl.gz next to a.jsonl"),
        (["a.JSONL", "b.jsonl"], "got a.JSONL next to b.jsonl"),
        (["a.jsonl", "b.json"], "got b.json next to a.jsonl"),
        (["train.jsonl", "x-test.jsonl"], "expected the rows of one split, got train.jsonl and x-test.jsonl; .*train"),
    ],
)
def test_a_folder_is_read_whole_and_of_one_split(names, said, tmp_path):
    write(tmp_path, *names)
    with pytest.raises(DataError, match=said):
        open_rows(str(tmp_path))
    assert len(open_rows(str(tmp_path / "*.jsonl"))) == sum(name.endswith(".jsonl") for name in names)


def test_what_describes_data_and_names_without_a_split_are_no_other_rows(tmp_path):
    write(tmp_path, "train-easy.jsonl", "train.hard.jsonl", "latest.jsonl", "images/0.jsonl")
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / "README.md").write_text("train.jsonl")
    assert len(open_rows(str(tmp_path))) == 3


def test_splits_that_are_not_there_and_other_numbers_of_rows_are_said(tmp_path):
    table = datasets.Dataset.from_list([ROW])
    datasets.DatasetDict(test=table).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=r"dataset_dict.json names test; name one of its splits \(.*saved:test\)"):
        open_rows(str(tmp_path / "saved"))
    (tmp_path / "hub").mkdir()
    table.to_parquet(tmp_path / "hub" / "train.parquet")
    columns = [{"name": name, "dtype": "string"} for name in ROW]
    splits = [{"name": "train", "num_bytes": 2, "num_examples": 7}]
    info = json.dumps({"dataset_info": {"features": columns, "splits": splits}})
    (tmp_path / "hub" / "README.md").write_text(f"---\n{info}\n---\n")
    with pytest.raises(DataError, match="its README.md describes: train has 1 rows, 7 are stated"):
        open_rows(str(tmp_path / "hub"))
    assert len(open_rows(str(tmp_path / "hub/*.parquet"))) == 1
