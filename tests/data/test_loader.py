"""The loader: resumable to the sample, whatever the ranks and threads, and whatever is wrong with a row."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from triptych_data import Budget, DataError, ImageLoader, Loader, VisionSpec, read_examples
from triptych_data.order import Order


@pytest.fixture
def train(write_jsonl, pictures) -> Path:
    rows = [
        {
            "prompt": f"{index} " + "<image>" * (index % 3),
            "images": [pictures[(index + k) % 5] for k in range(index % 3)],
        }
        for index in range(23)
    ]
    return write_jsonl(rows)


def sequence(path: Path, steps: int, *, world: int = 1, threads: int = 1, state=None, **options) -> tuple[list, dict]:
    """The examples of `steps` steps in global order, and the state afterwards."""
    examples = read_examples(path)
    with ImageLoader(threads=threads) as images:
        loaders = [
            Loader(examples, images=images, prompts_per_step=4, seed=5, rank=rank, world=world, **options)
            for rank in range(world)
        ]
        for loader in loaders:
            if state is not None:
                loader.load_state_dict(state)
        iterators = [iter(loader) for loader in loaders]
        seen = []
        for _ in range(steps):
            for iterator in iterators:
                for prompt in next(iterator):
                    seen.append((prompt.position, prompt.example.id, sum(int(p.sum()) for p in prompt.pixels)))
        return seen, json.loads(json.dumps(loaders[0].state_dict()))


def test_the_sequence_is_the_same_for_any_ranks_and_threads(train):
    expected, _ = sequence(train, 12)
    assert [position for position, _, _ in expected] == list(range(48))
    order = Order(length=23, seed=5)
    assert [name for _, name, _ in expected] == [f"{train}:{order(position) + 1}" for position in range(48)]
    for world, threads in ((1, 8), (2, 1), (4, 3)):
        assert sequence(train, 12, world=world, threads=threads)[0] == expected


@settings(max_examples=12, deadline=None)
@given(cut=st.integers(0, 11), before=st.sampled_from([1, 2, 4]), after=st.sampled_from([1, 2, 4]))
def test_resume_is_exact_on_other_ranks(tmp_path_factory, cut, before, after):
    folder = tmp_path_factory.mktemp("resume")
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"row {index}"}) + "\n" for index in range(23)))
    expected, _ = sequence(path, 12)
    first, state = sequence(path, cut, world=before)
    second, _ = sequence(path, 12 - cut, world=after, threads=4, state=state)
    assert first + second == expected


CHILD = """
import json, os, sys
from pathlib import Path
from triptych_data import ImageLoader, Loader, read_examples

train, log, saved, world, threads = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
examples = read_examples(train)
with ImageLoader(threads=threads) as images:
    loaders = [Loader(examples, images=images, prompts_per_step=4, seed=5, rank=r, world=world) for r in range(world)]
    if saved.exists():
        for loader in loaders:
            loader.load_state_dict(json.loads(saved.read_text()))
    print("ready", flush=True)
    for batches in zip(*loaders):
        with open(log, "a") as stream:
            for prompt in (prompt for batch in batches for prompt in batch):
                row = [prompt.position, prompt.example.id, sum(int(p.sum()) for p in prompt.pixels)]
                stream.write(json.dumps(row) + "\\n")
        partial = saved.with_suffix(".partial")
        partial.write_text(json.dumps(loaders[0].state_dict()))
        os.replace(partial, saved)
"""


@pytest.mark.slow
def test_killed_at_random_points_and_resumed_elsewhere_nothing_is_lost_or_repeated(train, tmp_path):
    child, log, saved = tmp_path / "child.py", tmp_path / "log", tmp_path / "state.json"
    child.write_text(textwrap.dedent(CHILD))
    generator = np.random.default_rng(11)
    seen: dict[int, list] = {}
    for world, threads in ((1, 2), (4, 1), (2, 8), (1, 1)):
        command = [sys.executable, str(child), str(train), str(log), str(saved), str(world), str(threads)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        wanted = len(seen) + int(generator.integers(5, 60))
        deadline = time.monotonic() + 60
        while (len(log.read_text().splitlines()) if log.exists() else 0) < wanted and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        position = json.loads(saved.read_text())["position"] if saved.exists() else 0
        for line in log.read_text().splitlines() if log.exists() else []:
            row = json.loads(line)
            if row[0] < position:  # what came after the last saved state is done again, as a trainer would
                assert seen.setdefault(row[0], row) == row
    assert sorted(seen) == list(range(len(seen)))
    assert len(seen) >= 16
    expected, _ = sequence(train, len(seen) // 4)
    assert [tuple(seen[position]) for position in range(len(seen))] == expected


def test_another_dataset_or_another_seed_is_refused_on_resume(train, write_jsonl, pictures):
    _, state = sequence(train, 2)
    train.write_text(train.read_text() + json.dumps({"prompt": "one more"}) + "\n")
    with pytest.raises(ValueError, match=r"differs in fingerprint \(expected .*force=True"):
        sequence(train, 1, state=state)
    with pytest.raises(ValueError, match=r"differs in seed \(expected 6, got 5\)"):
        sequence(train, 1, state={**state, "seed": 6})
    with pytest.raises(ValueError, match="version 1, got 7"):
        sequence(train, 1, state={**state, "version": 7})


def test_a_renamed_folder_does_not_change_the_fingerprint(train, tmp_path):
    before = read_examples(train).fingerprint
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "other.jsonl"
    copy.write_bytes(train.read_bytes())
    assert read_examples(copy, image_root=tmp_path).fingerprint == before


@pytest.fixture
def damaged(train, tmp_path) -> Path:
    """The same rows with one picture cut after its header: the check by headers passes, the decode fails."""
    data = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(data[:-200])
    return train


def test_stop_is_the_default(damaged):
    with pytest.raises(DataError, match=r"train.jsonl:\d+: image \d of \d, 1.jpg: cannot be decoded"):
        sequence(damaged, 6)


def test_skipped_rows_are_replaced_so_that_nothing_shifts_and_are_listed(train, damaged, tmp_path):
    order = Order(length=23, seed=5)
    listing = tmp_path / "out" / "quarantine.jsonl"
    options = {"on_bad": "skip", "max_bad": 20, "quarantine": listing}
    got, state = sequence(damaged, 12, **options)
    usable = {
        index for index, line in enumerate(train.read_text().splitlines()) if "1.jpg" not in json.loads(line)["images"]
    }
    for position, name, _ in got:
        row = order(position)
        if row in usable:
            assert name == f"{train}:{row + 1}"
        else:
            attempts = (order.instead(position, attempt) for attempt in range(1, 100))
            assert name == f"{train}:{next(a for a in attempts if a in usable) + 1}"
    entries = [json.loads(line) for line in listing.read_text().splitlines()]
    assert [entry["source"] for entry in entries] == list(state["refused"])
    assert all(entry["kind"] == "truncated" and "1.jpg" in entry["reason"] and entry["remedy"] for entry in entries)
    for world in (2, 4):
        assert sequence(damaged, 12, world=world, on_bad="skip", max_bad=20)[0] == got
    first, state = sequence(damaged, 5, on_bad="skip", max_bad=20)
    assert first + sequence(damaged, 7, world=2, state=state, on_bad="skip", max_bad=20)[0] == got


def test_more_bad_rows_than_allowed_stop_the_run(damaged):
    with pytest.raises(DataError, match="expected at most 2 refused rows, got 3; the last: image"):
        sequence(damaged, 12, on_bad="skip", max_bad=2)


def test_a_disk_error_is_retried_and_then_stops_even_with_skip(train, monkeypatch):
    import triptych_data.images as module
    from triptych_data import ImageError

    failures = iter([True] * 2 + [False] * 1000)
    real = module.load_pixels

    def flaky(source, *, policy):
        if next(failures):
            raise ImageError("cannot be read", image=str(source), kind="io", remedy="check the disk")
        return real(source, policy=policy)

    monkeypatch.setattr(module, "load_pixels", flaky)
    examples = read_examples(train)
    with ImageLoader(threads=1, retry_seconds=(0.01, 0.01)) as images:
        assert len(next(iter(Loader(examples, images=images, prompts_per_step=4, seed=5)))) == 4
    failures = iter([True] * 1000)
    with (
        ImageLoader(threads=1, retry_seconds=(0.01, 0.01)) as images,
        pytest.raises(DataError, match="cannot be read; check the disk"),
    ):
        for _ in Loader(examples, images=images, prompts_per_step=4, seed=5, on_bad="skip", max_bad=20, epochs=1):
            pass


def test_each_image_is_decoded_once_over_all_epochs_when_memory_allows(train):
    examples = read_examples(train)
    with ImageLoader(threads=2) as images:
        for _ in Loader(examples, images=images, prompts_per_step=4, epochs=3):
            pass
        assert images.decodes == 5


def test_pixels_have_the_size_the_model_sees_and_are_resized_once(train, draw, tmp_path):
    spec = VisionSpec.from_processor(Qwen2VLImageProcessorPil())
    budget = Budget(max_pixels=6 * 784, min_pixels=784)
    with ImageLoader(vision=spec, budget=budget) as images:
        for batch in Loader(read_examples(train), images=images, prompts_per_step=4, epochs=1):
            for prompt in batch:
                plan = images.plan(prompt.example)
                assert tuple(pixels.shape[:2] for pixels in prompt.pixels) == plan.sizes
                assert all(tokens <= 6 for tokens in plan.tokens)


def test_a_step_that_ranks_cannot_share_is_refused(train):
    with ImageLoader() as images, pytest.raises(ValueError, match="got 4 prompts, rank 0 of 3"):
        Loader(read_examples(train), images=images, prompts_per_step=4, world=3)


def test_the_next_step_is_decoded_while_this_one_trains(train):
    with ImageLoader(threads=2) as images:
        steps = iter(Loader(read_examples(train), images=images, prompts_per_step=4, seed=5, steps_ahead=20))
        next(steps)
        deadline = time.monotonic() + 20
        while images.decodes < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert images.decodes == 5


RANKS = """
import os, sys
import torch
import torch.distributed as dist
from triptych_data import ImageLoader, Loader, read_examples

rank = int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[3]}", rank=rank, world_size=2)
with ImageLoader() as images:
    loader = Loader(read_examples(sys.argv[1]), images=images, prompts_per_step=4, rank=rank, world=2, epochs=2)
    for step, batch in enumerate(loader):
        mine = torch.tensor([prompt.position for prompt in batch])
        everyone = [torch.empty_like(mine) for _ in range(2)]
        dist.all_gather(everyone, mine)
        assert torch.cat(everyone).tolist() == list(range(4 * step, 4 * step + 4)), everyone
assert step == 11
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_ranks_share_every_step_without_overlap(train, tmp_path):
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(train), str(rank), str(tmp_path / "rendezvous")], env=environment
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
