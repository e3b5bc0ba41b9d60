"""What nvcc makes of the CUDA kernels, wherever there is an nvcc; nothing here runs on a GPU."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "packages" / "kernels" / "csrc" / "cuda.cu"
NVCC = shutil.which("nvcc")
NUM_KERNELS = 26
"""Four copying ops for two units each, three adding ops for two units and three dtypes each."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NVCC is None, reason="no nvcc on PATH"),
    pytest.mark.skipif(not SOURCE.exists(), reason="needs the source tree"),
]


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
def test_no_kernel_spills(architecture: str, tmp_path: Path) -> None:
    assert NVCC is not None
    listed = subprocess.run([NVCC, "--list-gpu-code"], capture_output=True, text=True, check=True).stdout.split()
    if architecture not in listed:
        pytest.skip(f"this nvcc does not know {architecture}")
    command = [NVCC, "-std=c++17", "-O3", f"-arch={architecture}", "-Xptxas", "-v", "-cubin", "-o", str(tmp_path / "a")]
    report = subprocess.run([*command, str(SOURCE)], capture_output=True, text=True, check=True).stderr
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert len(spills) == NUM_KERNELS
    assert set(spills) == {("0", "0", "0")}
    registers = [int(count) for count in re.findall(r"Used (\d+) registers", report)]
    assert len(registers) == NUM_KERNELS
    assert max(registers) <= 48, "five blocks of 256 threads must fit one multiprocessor"
    assert "barriers" not in report.replace("used 0 barriers", "")
