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
    for name in ("device_attention", "device_steps"):
        importlib.import_module(name).main(["--cpu-tiny"])
    printed = capsys.readouterr().out
    ways = re.findall(r"^\| 40 \| 3 \| 8 \| (\w+) \| [\d.]+ \| [\d.]+ \| - \| (\S+) \|$", printed, re.MULTILINE)
    assert [name for name, _ in ways] == ["masked", "segments", "gathered"]
    assert all(float(difference) < 1e-5 for _, difference in ways)
    assert "| flex | NotImplementedError: FlexAttention does not support backward on CPU" in printed
    steps = re.findall(r"^\| (Triptych|TRL) \| (\d) \|", printed, re.MULTILINE)
    assert steps == [(name, str(number)) for name in ("Triptych", "TRL") for number in (1, 2, 3)]
    assert re.search(
        r"^RESULT attention of .* P = 40: masked [\d.]+ ms, segments [\d.]+ ms, gathered ", printed, re.MULTILINE
    )
    found = re.findall(r"^RESULT step 3 of (\w+): .*whole step [\d.]+ s$", printed, re.MULTILINE)
    assert found == ["Triptych", "TRL"]
    assert re.search(
        r"^RESULT forecast of the policy pass beyond weights and gradients: [\d.]+ MB", printed, re.MULTILINE
    )


@pytest.mark.parametrize(
    ("missing", "error", "code", "said"),
    [
        ("trl", None, 69, "left out: three steps of TRL, because trl is not installed; put its wheel"),
        ("", RuntimeError("out of\nmemory"), 1, "FAILED: three steps of TRL: RuntimeError: out of memory"),
        (
            "",
            ModuleNotFoundError("No module named 'dill'"),
            1,
            "FAILED: three steps of TRL: ModuleNotFoundError: No mod",
        ),
        ("", None, 0, "step 3 of TRL: whole step 0.06 s"),
    ],
    ids=["not installed", "fails", "misses a package of its own", "runs"],
)
def test_a_part_that_needs_trl_is_left_out_or_fails(monkeypatch, capsys, missing, error, code, said):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    device_steps = importlib.import_module("device_steps")
    monkeypatch.setattr(device_steps, "find_spec", lambda name: None if name == missing else object())

    def stock(*args, **kwargs):
        if error is not None:
            raise error
        return "RESULT step 3 of TRL: whole step 0.06 s"

    monkeypatch.setattr(device_steps, "stock", stock)
    assert device_steps.main(["--cpu-tiny", "--trainer", "trl"]) == code
    assert f"RESULT {said}" in capsys.readouterr().out


def recorded(tmp_path, *arguments, fails="nothing", code=3, sleeps="nothing", seconds=570):
    """Run the script with programs that only write down how they were called, or fail, or take too long."""
    for name in ("python", "nvidia-smi", "nvcc"):
        program = tmp_path / name
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" | tr "\\n" " " >>"{tmp_path}/calls"; echo >>"{tmp_path}/calls"\n'
            f'case "$*" in *"{fails}"*) exit {code};; *{sleeps}*) exec sleep 30;; *device*) echo "RESULT of $2";;\n'
            "esac\n"
        )
        program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "TRIPTYCH_PYTHON": str(tmp_path / "python"),
        "TRIPTYCH_GPU_SECONDS": str(seconds),
    }
    done = subprocess.run(["bash", SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=60)
    return done, (tmp_path / "calls").read_text().splitlines()


@pytest.mark.parametrize("arguments", [[], ["--cpu-tiny"]], ids=["device", "cpu-tiny"])
def test_the_script_calls_programs_that_exist_with_options_that_they_have(tmp_path, monkeypatch, arguments):
    done, calls = recorded(tmp_path, *arguments)
    assert done.returncode == 0, done.stdout
    monkeypatch.syspath_prepend(ROOT / "packages" / "kernels" / "benchmarks")
    groups = importlib.import_module("merge_competitors").GROUPS  # as the program of the table reads them
    files = [word for call in calls for word in call.split() if word.endswith(".py") and "/benchmarks/" in word]
    names = ["device_attention.py", "device_steps.py", "device_steps.py"]
    expected = [f"packages/trainer/benchmarks/{name}" for name in names]
    assert files == [*expected, "packages/kernels/benchmarks/table.py"]
    assert all((ROOT / name).is_file() for name in files)
    table = next(call for call in calls if "table.py" in call).split()
    assert set(table[table.index("--groups") + 1 :]) <= set(groups)
    assert int(table[table.index("--rounds") + 1]) >= 2
    assert sum("--cpu-tiny" in call for call in calls) == 3 * len(arguments)
    assert any("tests/kernels/test_gpu.py -m gpu" in call for call in calls) == (not arguments)


def rows(done):
    """The lines of the only table: part and result."""
    lines = done.stdout[done.stdout.index("\n| part |") :].splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    return [(row[0], row[2]) for row in cells[2:]]


def test_the_script_goes_on_after_a_part_that_fails_and_ends_with_its_name(tmp_path):
    done, calls = recorded(tmp_path, fails="device_attention.py")
    assert done.returncode == 1
    assert "table.py" in calls[-2]
    assert "-k sanitizer" in calls[-1]
    assert done.stdout.splitlines()[-1] == "FAILED: attention of one layer"
    assert rows(done)[2:5] == [
        ("attention of one layer", "FAILED (exit code 3)"),
        ("three steps of Triptych", "done"),
        ("", "of ignore"),
    ]


def test_a_part_that_is_left_out_is_named_and_is_no_failure(tmp_path):
    done, _ = recorded(tmp_path, "--cpu-tiny", fails="--trainer trl", code=69)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "LEFT OUT: three steps of TRL"
    assert ("three steps of TRL", "left out") in rows(done)


def test_parts_that_do_not_fit_into_the_time_are_named_and_are_no_failure(tmp_path):
    done, calls = recorded(tmp_path, "--cpu-tiny", sleeps="device_attention.py", seconds=2)
    assert done.returncode == 0, done.stdout
    first, *others = rows(done)
    assert first[0] == "attention of one layer"
    assert re.fullmatch(r"stopped after [12] seconds", first[1])
    assert len(others) == 3
    assert {result for _, result in others} == {"not run: nothing is left of the 2 seconds"}
    assert not any("device_steps" in call for call in calls)
