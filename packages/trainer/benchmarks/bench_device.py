"""Every line of the program of a GPU on the CPU, and every command of `scripts/gpu_check.sh`."""

import importlib
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "gpu_check.sh"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_attention_and_steps_of_a_tiny_model(monkeypatch, capsys):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    device_steps = importlib.import_module("device_steps")
    device_steps.main(["--cpu-tiny"])
    printed = capsys.readouterr().out
    ways = re.findall(r"^\| 40 \| 3 \| 8 \| (\w+) \| [\d.]+ \| [\d.]+ \| - \| (\S+) \|$", printed, re.MULTILINE)
    assert [name for name, _ in ways] == ["masked", "segments", "gathered"]
    assert all(float(difference) < 1e-5 for _, difference in ways)
    assert "| flex | NotImplementedError: FlexAttention does not support backward on CPU" in printed
    steps = re.findall(r"^\| (Triptych|TRL) \| (\d) \|", printed, re.MULTILINE)
    assert steps == [(name, str(number)) for name in ("Triptych", "TRL") for number in (1, 2, 3)]
    assert re.search(r"^forecast of the policy pass beyond weights and gradients: [\d.]+ MB", printed, re.MULTILINE)


def recorded(tmp_path, *arguments, fails="nothing"):
    """Run the script with programs that only write down how they were called; the one that gets `fails` fails."""
    for name in ("python", "nvidia-smi", "nvcc"):
        program = tmp_path / name
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" | tr "\\n" " " >>"{tmp_path}/calls"; echo >>"{tmp_path}/calls"\n'
            f'case "$*" in *{fails}*) exit 1;; esac\n'
        )
        program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "TRIPTYCH_PYTHON": str(tmp_path / "python"),
    }
    done = subprocess.run(["bash", SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=60)
    return done, (tmp_path / "calls").read_text().splitlines()


@pytest.mark.parametrize("arguments", [[], ["--cpu-tiny"]], ids=["device", "cpu-tiny"])
def test_the_script_calls_programs_that_exist_with_options_that_they_have(tmp_path, monkeypatch, arguments):
    done, calls = recorded(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    monkeypatch.syspath_prepend(ROOT / "packages" / "kernels" / "benchmarks")
    groups = importlib.import_module("merge_competitors").GROUPS  # as the program of the table reads them
    files = [word for call in calls for word in call.split() if word.endswith(".py")]
    assert files == ["packages/kernels/benchmarks/table.py", "packages/trainer/benchmarks/device_steps.py"]
    assert all((ROOT / name).is_file() for name in files)
    table = next(call for call in calls if "table.py" in call).split()
    assert set(table[table.index("--groups") + 1 :]) <= set(groups)
    assert int(table[table.index("--rounds") + 1]) >= 2
    assert sum("--cpu-tiny" in call for call in calls) == len(arguments)
    assert any("tests/kernels -m gpu" in call for call in calls) == (not arguments)


def test_the_script_goes_on_after_a_part_that_fails_and_ends_with_its_name(tmp_path):
    done, calls = recorded(tmp_path, fails="table.py")
    assert done.returncode == 1
    assert "device_steps.py" in calls[-1]
    assert done.stdout.splitlines()[-1] == "FAILED: table of the kernels"
