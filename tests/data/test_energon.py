"""The Energon adapter on local shards: what its samples become, and exact resume through our state."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import warnings
from pathlib import Path

import pytest
from triptych_data import ImageLoader

pytest.importorskip("megatron.energon", reason='the extra "energon" is not installed')
pytestmark = pytest.mark.filterwarnings("ignore")  # its own, on machines without an accelerator


@pytest.fixture
def prepared(tmp_path, draw, encode) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(3):
        with tarfile.open(folder / f"{shard}.tar", "w") as archive:
            for index in range(7 * shard, 7 * shard + 7):
                row = {"prompt": f"{index} " + "<image>" * (index % 3), "answer": index, "id": index}
                members = {"json": json.dumps(row).encode()}
                members |= {f"{k}.png": encode(draw(20 + index, 10 + k)) for k in range(index % 3)}
                for suffix, data in members.items():
                    entry = tarfile.TarInfo(f"{index:05d}.{suffix}")
                    entry.size = len(data)
                    archive.addfile(entry, io.BytesIO(data))
    command = [str(Path(sys.executable).parent / "energon"), "prepare", str(folder), "--non-interactive"]
    command += ["--split-parts", "train:.*", "--sample-type", "CrudeWebdataset"]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def steps(prepared: Path, count: int, *, state=None, **options) -> tuple[list, dict]:
    from triptych_data.energon import EnergonLoader

    with warnings.catch_warnings(), ImageLoader() as images:
        warnings.simplefilter("ignore")
        loader = EnergonLoader(prepared, images=images, prompts_per_step=4, **options)
        if state is not None:
            loader.load_state_dict(state)
        iterator = iter(loader)
        seen = []
        for _ in range(count):
            for prompt in next(iterator):
                index = int(prompt.example.id)
                shapes = [(10 + k, 20 + index, 3) for k in range(index % 3)]
                assert [pixels.shape for pixels in prompt.pixels] == shapes
                assert prompt.example.answer == str(index)
                assert prompt.example.source == f"{index // 7}.tar:{index + 1}"
                seen.append((prompt.position, prompt.example.id))
        state = loader.state_dict()
        iterator.close()
        return seen, state


def test_resume_through_our_state_is_exact(prepared, tmp_path):
    import torch

    expected, _ = steps(prepared, 10)
    assert {name for _, name in expected} == {str(index) for index in range(21)}
    head, state = steps(prepared, 3)
    torch.save(state, tmp_path / "state.pt")
    tail, _ = steps(prepared, 7, state=torch.load(tmp_path / "state.pt", weights_only=False))
    assert head + tail == expected


def test_two_ranks_read_different_samples(prepared):
    first, _ = steps(prepared, 4, rank=0, world=2)
    second, _ = steps(prepared, 4, rank=1, world=2)
    assert len(first) == len(second) == 8
    assert not {name for _, name in first} & {name for _, name in second}
