"""One look at every row gives the same whatever the number of threads, and stops at the first row of the file."""

from __future__ import annotations

import threading
import time

import pytest
from triptych_data import DataError, read_examples
from triptych_data.checked import RowCheck, _look
from triptych_data.read_row import row_reader
from triptych_data.rows import SourceRow

NUM_ROWS, BAD = 900, (3, 255, 256, 700, 899)


@pytest.fixture
def data(write_jsonl):
    rows = [{"prompt": f"row {number}", "answer": str(number), "kind": "x"} for number in range(NUM_ROWS)]
    for number in BAD:
        rows[number] = {"prompt": "<image>"}
    rows[5]["hint_for_reward"] = rows[800]["level"] = 1
    return write_jsonl(rows)


@pytest.mark.parametrize("threads", [1, 4])
def test_what_is_kept_and_listed_follows_the_file(data, threads, tmp_path):
    shown = []
    examples = read_examples(
        data,
        on_bad="skip",
        max_bad=5,
        quarantine=tmp_path / "quarantine.jsonl",
        threads=threads,
        progress=lambda done, total: shown.append((done, total)),
    )
    assert list(examples.row_numbers) == [number for number in range(NUM_ROWS) if number not in BAD]
    assert [error.source for error in examples.bad] == [f"{data}:{number + 1}" for number in BAD]
    assert len((tmp_path / "quarantine.jsonl").read_text().splitlines()) == len(BAD)
    assert shown == [(256, NUM_ROWS), (512, NUM_ROWS), (768, NUM_ROWS), (NUM_ROWS, NUM_ROWS)]
    assert set(examples.checked.columns) >= {"kind", "level"}
    assert examples[4].answer == "5"
    assert [example.answer for example in examples[100:300:100]] == [examples[100].answer, examples[200].answer]
    assert examples.only([7, 2])[1].answer == "2"
    assert examples.only([7, 2]).fingerprint != examples.fingerprint


@pytest.mark.parametrize("threads", [1, 4])
def test_it_stops_at_the_first_bad_row_of_the_file_and_above_the_limit(data, threads):
    with pytest.raises(DataError, match=r"train.jsonl:4: "):
        read_examples(data, threads=threads)
    with pytest.raises(DataError, match=r"train.jsonl:701: expected at most 3 refused rows of 900, got 4"):
        read_examples(data, on_bad="skip", max_bad=3, threads=threads)


def test_one_thread_at_a_time_runs_the_row_check(write_jsonl):
    inside, most = threading.Semaphore(1), []

    def look(example, sizes):
        most.append(inside.acquire(blocking=False))
        if len(most) % 100 == 0:
            time.sleep(0.001)
        inside.release()

    data = write_jsonl([{"prompt": f"row {number}"} for number in range(NUM_ROWS)])
    read_examples(data, row_check=RowCheck(look=look, name=None), threads=4)
    assert len(most) == NUM_ROWS
    assert all(most)


def test_of_a_missing_image_and_a_later_row_that_cannot_be_read_the_first_of_the_file_is_named(write_jsonl):
    rows = [{"prompt": f"row {number}"} for number in range(9)]
    rows[4] = {"prompt": "<image>", "images": ["nowhere.png"]}
    rows[6] = {"prompt": "<image>"}
    data = write_jsonl(rows)
    with pytest.raises(DataError, match=r"train.jsonl:5: .*nowhere.png"):
        read_examples(data)
    bad = read_examples(data, on_bad="skip", max_bad=2).bad
    assert [error.source for error in bad] == [f"{data}:5", f"{data}:7"]


def test_images_in_memory_are_looked_at_before_many_more_rows_are_read(draw, encode, monkeypatch, tmp_path):
    """The rows of a table of embedded images would not fit into memory by the hundred."""
    monkeypatch.setattr("triptych_data.checked._MOST_HELD_BYTES", 3 * len(encode(draw())) - 1)
    events, reader = [], row_reader()
    row = SourceRow(
        values={"prompt": "<image>", "images": [encode(draw())]}, file="t", source="t:1", index=0, folder=tmp_path
    )

    class Table:
        def row(self, index):
            events.append("read")
            return row

    found = _look(range(7), Table(), reader, lambda example: events.append("look"), stops=True)
    assert found.num_images == 7
    assert events == [*(["read"] * 3 + ["look"] * 3) * 2, "read", "look"]
