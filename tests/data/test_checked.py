"""One look at every row gives the same whatever the number of threads, and stops at the first row of the file."""

from __future__ import annotations

import threading
import time

import pytest
from triptych_data import DataError, read_examples
from triptych_data.checked import Judge

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


def test_one_thread_at_a_time_asks_the_judge(write_jsonl):
    inside, most = threading.Semaphore(1), []

    def look(example, sizes):
        most.append(inside.acquire(blocking=False))
        if len(most) % 100 == 0:
            time.sleep(0.001)
        inside.release()

    data = write_jsonl([{"prompt": f"row {number}"} for number in range(NUM_ROWS)])
    read_examples(data, judge=Judge(look=look, name=None), threads=4)
    assert len(most) == NUM_ROWS
    assert all(most)
