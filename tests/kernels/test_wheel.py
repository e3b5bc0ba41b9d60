"""The source distribution and the wheel: built once without torch, installed into an empty environment, run there."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "packages" / "kernels"
UV = shutil.which("uv")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(UV is None, reason="needs uv on PATH"),
    pytest.mark.skipif(not PACKAGE.exists(), reason="needs the source tree of the kernels"),
]

RUN = """
import torch, triptych_kernels as tk
plan = tk.MergePlan.from_images((1, 4), [(0, 0, [(1, 2)])], features_per_image=[2])
embeds, features = torch.zeros(1, 4, 8), torch.ones(2, 8, requires_grad=True)
merged = tk.merge(embeds, features, plan)
merged.sum().backward()
assert merged.tolist() == [[[0.0] * 8, [1.0] * 8, [1.0] * 8, [0.0] * 8]]
assert features.grad.tolist() == [[1.0] * 8] * 2
print(tk.__file__)
print(tk.unavailable_reason())
"""


def build(out: Path, *options: str, **environment: str) -> None:
    """Build into `out` from a copy of the source, in an isolated build environment."""
    source = out / "source"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("build", "dist", "__pycache__", "*.so"))
    assert UV is not None
    command = [UV, "build", *options, "--python", sys.executable, "--out-dir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **environment})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution and the wheel that was built from it.

    The machine's nvcc does not work: the case where `auto`, the default, must choose. The C++ library is linked in,
    as for wheels that others install.
    """
    folder = tmp_path_factory.mktemp("wheel")
    broken = folder / "bin" / "nvcc"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    path = f"{broken.parent}{os.pathsep}{os.environ['PATH']}"
    build(folder / "build", TRIPTYCH_CUDA="auto", TRIPTYCH_PORTABLE="on", PATH=path, CUDACXX="")
    return folder / "build"


def test_the_wheel_contains_the_package_and_needs_torch_only(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
        (license_name,) = [name for name in names if name.endswith("licenses/LICENSE")]
        assert archive.read(license_name) == (ROOT / "LICENSE").read_bytes()
    assert [name for name in names if name.endswith(".so")], names
    assert not [name for name in names if "csrc" in name or "benchmarks" in name]
    requirements = [row.split()[1] for row in metadata.splitlines() if row.startswith("Requires-Dist")]
    assert [requirement.startswith("torch") for requirement in requirements] == [True], requirements


def test_a_portable_wheel_needs_no_newer_glibc_than_manylinux_2_28_has_and_no_cpp_library(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (library,) = [archive.read(name) for name in archive.namelist() if name.endswith(".so")]
    needed = {int(minor) for minor in re.findall(rb"\0GLIBC_2\.(\d+)", library)}
    assert max(needed) <= 28, sorted(needed)
    assert not re.search(rb"\0(GLIBCXX|CXXABI)_|\0libstdc\+\+", library)
    assert b"\0GOMP_parallel\0" in library  # still on several threads


def test_the_source_distribution_contains_what_the_wheel_is_built_from(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {str(path.relative_to(PACKAGE)) for path in (PACKAGE / "csrc").iterdir()}
    assert sources | {"CMakeLists.txt", "LICENSE", "README.md", "pyproject.toml"} <= names
    assert not [name for name in names if name.startswith("build/") or name.endswith((".so", ".pyc"))]


def test_it_runs_in_an_empty_environment_and_says_what_it_lacks(built: Path, tmp_path: Path) -> None:
    """torch alone is lent to the environment, by path, because it is gigabytes large."""
    where = tmp_path / "empty"
    venv.create(where, with_pip=False)
    python = where / "bin" / "python"
    assert UV is not None
    (wheel,) = built.glob("*.whl")
    install = [UV, "pip", "install", "--offline", "--no-deps", "--python", str(python), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, text=True)
    (site,) = where.glob("lib/python*/site-packages")
    (site / "lent.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")
    command = [str(python), "-W", "error", "-c", RUN]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(command, check=True, capture_output=True, text=True, cwd=where, env=environment)
    file, reason = run.stdout.splitlines()
    assert Path(file).is_relative_to(site)
    assert reason == "triptych-kernels has no CUDA kernels: no working nvcc was found at build time"


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"TRIPTYCH_CUDA": "on", "CUDACXX": "/nonexistent/nvcc"},
            "TRIPTYCH_CUDA=on, but no working nvcc was found at build time; put nvcc on PATH, or set CUDACXX",
        ),
        ({"TRIPTYCH_CUDA": "maybe"}, "TRIPTYCH_CUDA must be auto, on or off, got 'maybe'"),
    ],
    ids=["on without nvcc", "no such mode"],
)
def test_a_build_that_cannot_do_what_is_asked_fails(environment: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        build(tmp_path / "build", "--wheel", **environment)
    assert message in " ".join(failed.value.stderr.split())  # cmake breaks long lines
