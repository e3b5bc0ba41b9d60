"""The command of the built-in demos, with a warm-up and a training of one step."""

import json
from dataclasses import replace
from functools import partial

import pytest
from triptych_trainer.commands.train import main
from triptych_trainer.demo import built_in
from triptych_trainer.demo.look import LookWarmup
from triptych_trainer.demo.recipe import GRPORecipe


@pytest.mark.slow
def test_the_look_demo_runs_from_its_pictures_to_its_tables(tmp_path, capsys, monkeypatch):
    short = LookWarmup(batch_size=5, max_text_steps=1, max_see_steps=1, habit_steps=1)
    whole = built_in._look
    monkeypatch.setattr(built_in, "GRPORecipe", partial(GRPORecipe, num_train=8, num_heldout=5))
    monkeypatch.setattr(built_in, "_look", lambda *seed, **options: replace(whole(*seed, **options), warmup=short))
    small = ["--max_steps", "1", "--num_generations", "2", "--per_device_train_batch_size", "4"]
    small += ["--memory_forecast", "false"]
    out = tmp_path / "out"
    assert main(["--demo", "look", "--blank_tool", *small, "--output_dir", str(out)]) == 0
    said = capsys.readouterr().out
    assert "an opened box shows a grey picture" in said
    assert "calls per rollout" in said
    result = json.loads((out / "result.json").read_text())
    assert (result["demo"], result["seed"], result["blank_tool"]) == ("look", 0, True)
    assert result["after"]["sampled"]["calls_by_kind"].keys() == {"lids", "one", "two"}
    (log, *_) = json.loads((out / "trainer_state.json").read_text())["log_history"]
    assert {"rewards/accuracy/mean", "rewards/answered/mean", "rewards/BlankBoxes/mean"} <= log.keys()
    assert (out / "report.html").is_file()
    assert f"| `accuracy, sampled` | {result['before']['sampled']['accuracy']:.4g} |" in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--blank_tool"], "--blank_tool: the demo 'places' has no tool; add --demo look"),
        (["--demo", "look", "--placement", "first"], "--placement first: the demo 'look' has one image a prompt"),
        (["--demo", "look", "--environment", "a.py:B"], "--environment: the built-in demo has no use for it"),
        (["--demo", "look", "--model", "m", "--data", "d.jsonl"], "--demo look: a demo brings its own model and data"),
        (["--demo", "eyes"], "--demo expects one of places, look, got 'eyes'"),
    ],
)
def test_what_a_demo_would_not_use_is_refused(argv, expected, tmp_path, capsys):
    assert main([*argv, "--output_dir", str(tmp_path / "out")]) == 2
    assert expected in capsys.readouterr().err
