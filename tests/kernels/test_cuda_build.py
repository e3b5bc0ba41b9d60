"""What nvcc makes of the CUDA kernels, wherever there is an nvcc; nothing here runs on a GPU."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "packages" / "kernels" / "csrc" / "cuda.cu"
NVCC = shutil.which("nvcc")
NUM_KERNELS = 10
"""merge and text_grad for two units each, features_grad for two units and three dtypes."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NVCC is None, reason="needs nvcc on PATH"),
    pytest.mark.skipif(not SOURCE.exists(), reason="needs the source tree of the kernels"),
]


def test_no_kernel_spills(tmp_path: Path) -> None:
    """One build for every architecture of the wheel that this nvcc knows."""
    assert NVCC is not None
    listed = subprocess.run([NVCC, "--list-gpu-code"], capture_output=True, text=True, check=True).stdout.split()
    targets = [target for target in ("80", "90", "100") if f"sm_{target}" in listed]
    assert targets, f"nvcc lists none of sm_80, sm_90 and sm_100: {listed}"
    codes = [f"-gencode=arch=compute_{target},code=sm_{target}" for target in targets]
    command = [NVCC, "-std=c++17", "-O3", "-fatbin", *codes, "-Xptxas", "-v", "-o", str(tmp_path / "kernels.fatbin")]
    report = subprocess.run([*command, str(SOURCE)], capture_output=True, text=True, check=True).stderr
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert len(spills) == NUM_KERNELS * len(targets)
    assert set(spills) == {("0", "0", "0")}
    registers = [int(count) for count in re.findall(r"Used (\d+) registers", report)]
    assert len(registers) == NUM_KERNELS * len(targets)
    assert max(registers) <= 48, "five blocks of 256 threads must fit one multiprocessor"
    assert "barriers" not in report.replace("used 0 barriers", "")
