"""Data beyond one file and one process: shards read through `datasets` on two ranks, looked at by the first alone."""

import io
import json
import socket
from pathlib import Path

import datasets
import pytest
from PIL import Image

WORKER = Path(__file__).parent / "data_worker.py"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # two ranks, in processes of their own


@pytest.fixture
def shards(tmp_path):
    """Three parquet shards of two rows; images inside the rows and, in the last shard, beside them."""
    (tmp_path / "shards").mkdir()
    number = 0
    for shard in range(3):
        rows = []
        for _ in range(2):
            buffer = io.BytesIO()
            Image.new("RGB", (20 + number, 30), "red").save(buffer, "PNG")
            (tmp_path / "shards" / f"{number}.png").write_bytes(buffer.getvalue())
            image = {"bytes": None if shard == 2 else buffer.getvalue(), "path": f"{number}.png"}
            rows.append({"prompt": "<image> ?", "images": [image], "answer": "none" if number == 3 else str(number)})
            number += 1
        datasets.Dataset.from_list(rows).to_parquet(tmp_path / "shards" / f"{shard}.parquet")
    return tmp_path / "shards"


@pytest.fixture
def read(fork, tmp_path):
    def run(data: str, *, on_bad: str) -> list[dict]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        result, started = tmp_path / "result.json", []
        for rank in range(2):
            place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            place |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
            place |= {"TRIPTYCH_CACHE": str(tmp_path / "memory")}
            started.append(fork(data, on_bad, str(result), script=WORKER, environment=place))
        for process in started:
            done = process.wait()
            assert done.returncode == 0, done.stderr[-3000:]
        return [json.loads(Path(f"{result}.{rank}").read_text()) for rank in range(2)]

    return run


def test_two_ranks_get_the_same_rows_and_the_first_looks_once_for_both(read, shards):
    data = str(shards / "*.parquet")
    first, second = read(data, on_bad="skip")
    assert (first["rows"], first["digest"], first["images"]) == (second["rows"], second["digest"], second["images"])
    assert [(place, answer, sizes) for place, _, answer, sizes in first["rows"]] == [
        (f"{shards}/{number // 2}.parquet:{number % 2 + 1}", str(number), [[30, 20 + number]])
        for number in (0, 1, 2, 4, 5)
    ]
    assert first["images"] == 5
    assert [first[what] for what in ("headers", "checked", "saved")] == [6, 6, 1]
    assert [second[what] for what in ("headers", "checked", "saved")] == [0, 0, 0]


def test_what_the_first_rank_refuses_ends_every_rank_with_one_sentence(read, shards):
    first, second = read(str(shards / "*.parquet"), on_bad="stop")
    assert first["error"] == second["error"]
    assert first["error"].startswith(f"{shards}/1.parquet:2: no such answer; drop the row; to list every refused row: ")
