"""The wheel: built without torch in sight, installed into an empty environment, run there."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import torch

PACKAGE = Path(__file__).parents[2] / "packages" / "kernels"
UV = shutil.which("uv")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(UV is None, reason="no uv on PATH"),
    pytest.mark.skipif(not PACKAGE.exists(), reason="needs the source tree"),
]

RUN = """
import torch, triptych_kernels as tk
plan = tk.MergePlan.from_spans((4,), [(0, 1, 2, 0)], num_features=2)
weight, features = torch.zeros(3, 8), torch.ones(2, 8, requires_grad=True)
merged = tk.embed_and_merge(weight, torch.tensor([0, 9, 9, 2]), features, plan)
merged.sum().backward()
assert merged.tolist() == [[0.0] * 8, [1.0] * 8, [1.0] * 8, [0.0] * 8]
assert features.grad.tolist() == [[1.0] * 8] * 2
print(tk.__file__)
print(tk.unavailable_reason())
"""


def build(out: Path, **environment: str) -> Path:
    """The wheel, from a copy of the source, in an isolated build environment."""
    source = out / "source"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("build", "dist", "__pycache__", "*.so"))
    assert UV is not None
    command = [UV, "build", "--wheel", "--python", sys.executable, "--out-dir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **environment})
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once, on a machine whose nvcc does not work: the case where `auto` must choose."""
    folder = tmp_path_factory.mktemp("wheel")
    broken = folder / "bin" / "nvcc"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    return build(folder / "build", TRIPTYCH_CUDA="auto", PATH=f"{broken.parent}{os.pathsep}{os.environ['PATH']}")


def run_in_empty_environment(wheel: Path, where: Path) -> str:
    """Install `wheel` and nothing else, merge, and return its `unavailable_reason()`.

    torch alone is lent, by path, because it is gigabytes large.
    """
    venv.create(where, with_pip=False)
    python = where / "bin" / "python"
    assert UV is not None
    install = [UV, "pip", "install", "--offline", "--no-deps", "--python", str(python), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, text=True)
    (site,) = where.glob("lib/python*/site-packages")
    (site / "lent.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")
    command = [str(python), "-W", "error", "-c", RUN]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=where).stdout.splitlines()
    assert Path(printed[0]).is_relative_to(site)
    return printed[1]


def test_the_wheel_holds_the_package_and_needs_torch_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert [name for name in names if name.endswith(".so")], names
    assert not [name for name in names if "csrc" in name or "benchmarks" in name]
    assert [row for row in metadata.splitlines() if row.startswith("Requires-Dist")] == ["Requires-Dist: torch>=2.11"]


def test_it_runs_in_an_empty_environment_and_says_what_it_lacks(wheel: Path, tmp_path: Path) -> None:
    reason = run_in_empty_environment(wheel, tmp_path / "empty")
    assert reason == "triptych-kernels has no CUDA kernels: no working nvcc was found at build time"


def test_cuda_demanded_and_missing_fails_loudly(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        build(tmp_path / "build", TRIPTYCH_CUDA="on", CUDACXX="/nonexistent/nvcc")
    assert "TRIPTYCH_CUDA=on, but no working nvcc was found at build time" in failed.value.stderr
    with pytest.raises(subprocess.CalledProcessError) as failed:
        build(tmp_path / "again", TRIPTYCH_CUDA="maybe")
    assert "TRIPTYCH_CUDA must be auto, on or off, got 'maybe'" in failed.value.stderr
