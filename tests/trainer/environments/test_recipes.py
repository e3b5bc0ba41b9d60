"""The recipes of examples/environments, as they stand: the small model is made, and trained for ten steps."""

import importlib.util
import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from triptych_trainer.commands.train import main

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
CHROMIUM = any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "library", "kind"), [("grid", "minigrid", "MiniGrid"), ("pages", "miniwob", "MiniWob")]
)
def test_a_recipe_trains_for_ten_steps(name, library, kind, tmp_path, monkeypatch, capsys):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed: `make env-check` tests with it")
    if name == "pages" and not CHROMIUM:
        pytest.skip("no chromium on this machine: install it to train on the pages of MiniWoB++")
    shutil.copytree(EXAMPLES / "environments", tmp_path / "examples" / "environments")
    monkeypatch.chdir(tmp_path)
    script = "examples/environments/tiny_model.py"
    monkeypatch.setattr(sys, "argv", [script, name, f"outputs/tiny_{name}"])
    runpy.run_path(script, run_name="__main__")
    assert main(["--config", f"examples/environments/{name}.yaml", "--memory_forecast", "false"]) == 0, (
        capsys.readouterr()
    )
    log = json.loads((tmp_path / "outputs" / name / "trainer_state.json").read_text())["log_history"]
    steps = [entry for entry in log if f"rewards/{kind}/mean" in entry]
    assert [entry["step"] for entry in steps] == list(range(1, 11))
    assert sum(entry["tools/call_frequency"] for entry in steps) > 2, "the model acts"
    assert sum(entry["tools/images"] for entry in steps) > 2, "and sees what follows"
    assert all(-1 <= entry[f"rewards/{kind}/mean"] <= 1 for entry in steps)
