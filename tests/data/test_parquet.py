"""Parquet files of some kilobytes that would fill a disk."""

from __future__ import annotations

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from triptych_data import DataError, read_examples
from triptych_data.rows import parquet


def write(path, rows: int, **options):
    texts = [f"{index % 7}" + "x" * 2000 for index in range(100)]
    pq.write_table(pa.table({"prompt": (texts * (rows // 100 + 1))[:rows], "answer": ["a"] * rows}), path, **options)
    return path


@pytest.mark.parametrize("use_dictionary", [True, False])
def test_a_file_that_grows_without_measure_is_refused_before_it_is_read(tmp_path, monkeypatch, use_dictionary):
    monkeypatch.setattr(parquet, "_ALWAYS_ALLOWED_BYTES", 1 << 20)
    path = write(tmp_path / "rows.parquet", 6000, compression="zstd", use_dictionary=use_dictionary)
    size = path.stat().st_size
    assert size < 45_000
    with pytest.raises(DataError) as caught:
        read_examples(path)
    assert str(caught.value).startswith(f"{path}: expected at most ")
    assert f"bytes of rows in a parquet file of {size:,} bytes, got more; check where it comes from" in str(
        caught.value
    )
    (tmp_path / "data").mkdir()
    path.rename(tmp_path / "data" / "train.parquet")
    with pytest.raises(DataError, match="got more"):
        read_examples(tmp_path / "data")


def test_files_that_are_here_are_read_without_a_line_of_progress(tmp_path, capsys):
    was_off = datasets.are_progress_bars_disabled()
    datasets.enable_progress_bars()
    try:
        (tmp_path / "data").mkdir()
        assert len(read_examples(write(tmp_path / "rows.parquet", 3))) == 3
        assert len(read_examples(write(tmp_path / "data" / "train.parquet", 4).parent)) == 4
        assert not datasets.are_progress_bars_disabled(), "what a script downloads afterwards is still shown"
    finally:
        if was_off:
            datasets.disable_progress_bars()
    assert capsys.readouterr().err == ""


def test_repeated_texts_within_measure_are_read(tmp_path):
    path = write(tmp_path / "rows.parquet", 300)
    parquet.check_expansion(path)
    assert len(read_examples(path)) == 300


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"prompt": pa.array([], pa.string())}), "the file contains no rows; check that it was written"),
        (pa.Table.from_arrays([pa.array(["x"])] * 2, ["prompt", "prompt"]), "column 'prompt' appears twice; rename"),
        (
            pa.table({"prompt": ["x"], "level": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8()))}),
            "got level of type map<string, int8 .*>; write the column as a struct or as JSON text, or leave it out",
        ),
    ],
)
def test_a_file_that_no_table_can_be_made_of_says_why(tmp_path, table, message):
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=message):
        read_examples(tmp_path / "rows.parquet")


def test_shards_with_other_columns_are_read_each_with_its_own(tmp_path):
    rows = ({"prompt": ["x"], "answer": [3]}, {"prompt": ["y"], "answer": ["many"], "level": [1]})
    for number, row in enumerate(rows):
        pq.write_table(pa.table(row), tmp_path / f"{number}.parquet")
    examples = read_examples(str(tmp_path / "*.parquet"))
    assert [example.columns for example in examples] == [
        {"prompt": "x", "answer": 3},
        {"prompt": "y", "answer": "many", "level": 1},
    ]
    assert [example.source for example in examples] == [f"{tmp_path}/{number}.parquet:1" for number in range(2)]
    with pytest.raises(DataError, match=r"\(Couldn't cast .*\); correct .*, or name its files by a pattern"):
        read_examples(tmp_path)
