"""What a start spends on its data before the first step: the first time, the next time, plain Pillow, and the floor.

As tests these run once on a few rows. `python bench_start.py --rows 100000` draws two images for each row and prints
the CPU seconds and the memory of each way, each in a process of its own.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from triptych_data import read_examples
from triptych_data.seen_headers import SeenHeaders

IMAGES_PER_ROW = 2
SMALL_ROWS = 20
DRAWN = 40
MEMORY = "memory"
Facts = tuple[int, int]
"""(rows, sum of the heights and widths of their images): equal for every way."""


def write_table(folder: Path, num_rows: int) -> Path:
    """`rows.jsonl` and two small images for each row, half of them JPEG, half PNG, of 40 different sizes."""
    generator = np.random.default_rng(0)
    drawn = []
    for number in range(DRAWN):
        buffer, ending = io.BytesIO(), "jpg" if number % 2 else "png"
        pixels = generator.integers(0, 255, (48 + number, 64 + 2 * number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "JPEG" if number % 2 else "PNG")
        drawn.append((buffer.getvalue(), ending))
    with (folder / "rows.jsonl").open("w") as rows:
        for row in range(num_rows):
            names = []
            for number in range(IMAGES_PER_ROW * row, IMAGES_PER_ROW * (row + 1)):
                data, ending = drawn[number % DRAWN]
                name = f"images/{number // 1000:03d}/{number:06d}.{ending}"
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
                names.append(name)
            prompt = f"Compare <image> with <image>: which one was taken in {1900 + row % 100}?"
            rows.write(json.dumps({"id": f"row-{row}", "prompt": prompt, "images": names, "answer": "first"}) + "\n")
    return folder / "rows.jsonl"


def sides(seen: SeenHeaders) -> int:
    """The sum over all images."""
    return int(seen.table.sides.sum())


def started(data: Path) -> Facts:
    """As `train` reads its data; what it finds is remembered beside the data."""
    seen = SeenHeaders()
    examples = read_examples(data, seen=seen, memory=data.parent / MEMORY)
    return len(examples), sides(seen)


def plain_pillow(data: Path) -> Facts:
    """Each row as a dictionary in memory, each image opened by Pillow: no check of markers, paths or limits."""
    total, rows = 0, [json.loads(line) for line in data.read_text().splitlines()]
    for row in rows:
        for name in row["images"]:
            with Image.open(data.parent / name) as image:
                total += sum(image.size)
    return len(rows), total


def floor(data: Path) -> Facts:
    """Each line parsed and the first bytes of each file read, and no more; Pillow tells sizes, of equal bytes once."""
    known: dict[bytes, int] = {}
    total, count = 0, 0
    with data.open() as lines:
        for line in lines:
            count += 1
            for name in json.loads(line)["images"]:
                descriptor = os.open(data.parent / name, os.O_RDONLY)
                start = os.read(descriptor, 4096)
                os.close(descriptor)
                if start not in known:
                    with Image.open(data.parent / name) as image:
                        known[start] = sum(image.size)
                total += known[start]
    return count, total


def forgotten(data: Path) -> None:
    """Remove what an earlier start remembers."""
    for file in (data.parent / MEMORY).glob("*"):
        file.unlink()


WAYS: dict[str, Callable[[Path], Facts]] = {
    "first start": started,
    "next start": started,
    "plain Pillow": plain_pillow,
    "floor": floor,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("start"), SMALL_ROWS)


@pytest.mark.parametrize("way", WAYS)
def test_start(benchmark, data: Path, way: str) -> None:
    benchmark.group = "start"
    benchmark.extra_info["images"] = IMAGES_PER_ROW * SMALL_ROWS
    if way == "next start":
        started(data)
    before = (lambda: forgotten(data)) if way == "first start" else None
    found = benchmark.pedantic(WAYS[way], args=(data,), setup=before, rounds=3 if before else 1)
    assert found == floor(data)


def measure(way: str, data: Path) -> None:
    """Print CPU seconds, seconds and the rise of the highest resident memory in MB of this process."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    found = WAYS[way](data)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    print(json.dumps({"cpu": cpu, "megabytes": (after.ru_maxrss - before.ru_maxrss) / 1024, "found": found}))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--data", type=Path, help="a table that was written before")
    parser.add_argument("--way", choices=WAYS)
    options = parser.parse_args()
    if options.way:
        measure(options.way, options.data)
        return
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or write_table(Path(folder), options.rows)
        forgotten(data)
        print("| way | CPU seconds | memory, MB |\n|---|---:|---:|")
        results = {}
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way, "--data", str(data)]
            results[way] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            print(f"| {way} | {results[way]['cpu']:.1f} | {results[way]['megabytes']:.0f} |", flush=True)
        assert len({tuple(result["found"]) for result in results.values()}) == 1
        forgotten(data)


if __name__ == "__main__":
    main()
