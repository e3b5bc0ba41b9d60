"""No two examples are taken for one another, whatever their ids, files and places."""

from __future__ import annotations

import json
import os
from pathlib import Path

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triptych_data import DataError, Example, read_examples
from triptych_data.rows import fingerprint
from triptych_data.rows.arrow import TableRows

ROWS = st.lists(
    st.fixed_dictionaries({"prompt": st.sampled_from("abc")}, optional={"id": st.sampled_from([1, "1", "x"])}),
    min_size=1,
    max_size=4,
)
TABLES = st.lists(st.tuples(st.sampled_from(["jsonl", "array", "one line", "memory"]), ROWS), min_size=1, max_size=4)


def written(kind: str, rows: list[dict], path: Path):
    if kind == "memory":
        return datasets.Dataset.from_list([{"prompt": row["prompt"], "id": str(row.get("id"))} for row in rows])
    if kind == "jsonl":
        text = "\n".join(map(json.dumps, rows))
    else:
        text = json.dumps(rows, indent=None if kind == "one line" else 1)
    path.write_text(text)
    return path


def prompt_of(example: Example) -> str:
    return example.prompt.pieces()[0][0]


@settings(max_examples=25, deadline=None)
@given(tables=TABLES, together=st.booleans())
def test_a_key_leads_to_the_row_of_its_own(tables, together, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    sources = [written(kind, rows, folder / f"{number}.json") for number, (kind, rows) in enumerate(tables)]
    read = [read_examples(sources)] if together else [read_examples(source) for source in sources]
    kept: dict[str, str] = {}
    for examples in read:
        for index, example in enumerate(examples):
            assert example.row == index
            assert kept.setdefault(example.key, prompt_of(example)) == prompt_of(example)
    wanted = [row["prompt"] for _, rows in tables for row in rows]
    assert [prompt_of(example) for examples in read for example in examples] == wanted
    files = [len(rows) for kind, rows in tables if kind != "memory"]
    assert len(kept) >= (len(wanted) if together else sum(files))  # equal tables in memory may be one table


def in_memory(prompt: str) -> datasets.Dataset:
    return datasets.Dataset.from_list([{"prompt": prompt}])


def test_two_datasets_in_memory_share_neither_key_nor_place():
    (train,), (held_out,) = read_examples(in_memory("train")), read_examples(in_memory("held out"))
    assert train.key != held_out.key
    assert (train.source, train.id) != (held_out.source, held_out.id)
    named = in_memory("x")
    named._split = datasets.Split.VALIDATION
    assert read_examples(named)[0].source.startswith("dataset:validation@")


def test_a_key_is_the_same_in_the_next_run_and_another_for_other_data_or_another_reading(write_jsonl):
    rows = [{"prompt": "a"}, {"prompt": "b"}]
    path = write_jsonl(rows)
    first = read_examples(path)
    assert [example.key for example in first] == [example.key for example in read_examples(path)]
    assert first[0].key != read_examples(path, no_markers="error")[0].key
    assert first[0].key != read_examples(path, image_root=path.parent / "elsewhere", check_images=False)[0].key
    write_jsonl([{"prompt": "a"}, {"prompt": "c"}])
    again = read_examples(path)
    assert not {example.key for example in first} & {example.key for example in again}
    assert first.fingerprint != again.fingerprint


def test_fingerprints_follow_the_rows_and_not_the_folder(tmp_path):
    digests = []
    for folder, rows in (("a", "xy"), ("b", "xy"), ("c", "xz")):
        (tmp_path / folder).mkdir()
        for name, text in (
            ("lines.jsonl", "\n".join(json.dumps({"prompt": letter}) for letter in rows)),
            ("array.json", json.dumps([{"prompt": letter} for letter in rows])),
        ):
            (tmp_path / folder / name).write_text(text)
        datasets.Dataset.from_list([{"prompt": letter} for letter in rows]).to_parquet(tmp_path / folder / "t.parquet")
        read = [read_examples(tmp_path / folder / name) for name in ("lines.jsonl", "array.json", "t.parquet")]
        read.append(read_examples(datasets.Dataset.from_list([{"prompt": letter} for letter in rows])))
        read.append(read_examples([tmp_path / folder / "lines.jsonl", tmp_path / folder / "array.json"]))
        digests.append([examples.fingerprint for examples in read])
    assert digests[0] == digests[1]
    assert not set(digests[0]) & set(digests[2])
    assert len(set(digests[0])) == 5


def test_the_fingerprint_of_a_dataset_sees_one_row_of_many_and_no_difference_in_how_they_lie(tmp_path):
    rows = [{"prompt": f"{k}", "answer": None if k % 3 else "x"} for k in range(500)]
    table = datasets.Dataset.from_list(rows)
    table.save_to_disk(tmp_path / "saved", num_shards=3)
    joined = datasets.concatenate_datasets([table.select(range(70)), table.select(range(70, 500))])
    known = TableRows(table).fingerprint()
    for copy in (datasets.load_from_disk(tmp_path / "saved"), joined, table.select(list(range(500)))):
        assert TableRows(copy).fingerprint() == known
    edited = [{**row, "answer": "y"} if k == 123 else row for k, row in enumerate(rows)]
    for other in (datasets.Dataset.from_list(edited), table.shuffle(seed=0), table.select(range(499))):
        assert TableRows(other).fingerprint() != known


@pytest.mark.slow
def test_the_fingerprint_sees_one_letter_of_a_large_file(tmp_path):
    path = tmp_path / "large.jsonl"
    digests = []
    for letter in "xy":
        answers = [letter if index == 4 else "x" for index in range(8)]
        path.write_text("\n".join(json.dumps({"prompt": "x" * 900_000, "answer": answer}) for answer in answers))
        digests.append(read_examples(path, check_images=False).fingerprint)
    assert digests[0] != digests[1]


def test_the_digest_of_a_large_file_is_of_every_byte_and_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "LARGE_BYTES", 100)
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    read = []
    monkeypatch.setattr(
        fingerprint, "_digest", lambda path, size, known=fingerprint._digest: read.append(path) or known(path, size)
    )
    path, copy = tmp_path / "large.jsonl", tmp_path / "copy.jsonl"

    def digest(file, letter, *, second):
        if letter is not None:
            file.write_bytes(b"a" * 500 + letter + b"a" * 500)
        os.utime(file, (second, second))
        fingerprint._in_this_process.cache_clear()
        return fingerprint.file_fingerprint(file)

    first = digest(path, b"x", second=1_000)
    assert digest(path, None, second=1_000) == first
    assert read == [path]
    assert digest(path, b"y", second=2_000) != first
    assert digest(copy, b"x", second=3_000) == first
    for remembered in (tmp_path / "cache").iterdir():
        remembered.write_text("damaged")
    assert digest(copy, None, second=3_000) == first
    assert read == [path, path, copy, copy]


def test_the_digest_of_a_file_that_was_just_written_is_not_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "LARGE_BYTES", 100)
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "large.jsonl"
    path.write_bytes(b"a" * 500)
    fingerprint.file_fingerprint(path)
    assert not (tmp_path / "cache").exists()


def test_columns_are_the_row_as_it_was_read(write_jsonl):
    row = {"prompt": "a", "solution": ["12", "twelve"], "prompts": "v", "source": "web", "example_id": 5, "id": 7}
    (example,) = read_examples(write_jsonl([row]))
    assert example.columns == row
    assert example.id == "7"


def test_a_dataset_with_a_transform_on_access_is_refused():
    table = in_memory("a").with_transform(lambda batch: {"prompt": ["b"] * len(batch["prompt"])})
    with pytest.raises(DataError, match=r"without a transform that is applied on access.*dataset\.map"):
        read_examples(table)
