"""The page of `triptych sft`: curves of training and of held-out rows, and how the run was made."""

import json

from triptych_trainer.commands.report import main

LOG = [
    {"step": 1, "loss": 2.5, "grad_norm": 3.0, "learning_rate": 1e-3, "num_tokens": 100.0, "epoch": 0.5},
    {"step": 2, "eval_loss": 2.25, "eval_runtime": 1.0, "epoch": 1.0},
    {"step": 2, "loss": 2.0, "grad_norm": 1.0, "learning_rate": 5e-4, "num_tokens": 210.0, "epoch": 1.0},
    {"step": 2, "train_runtime": 3.0, "train_loss": 2.2},
]


def a_run(folder, *, log=LOG, warned="<b> & more"):
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": log}), encoding="utf-8")
    record = {"command": ["triptych", "sft", "--data", "a.jsonl"], "warnings": {"x": warned}}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def test_a_run_that_sampled_nothing_has_a_page_of_its_curves(tmp_path, capsys):
    run = a_run(tmp_path / "cold")
    assert main([str(run)]) == 0
    assert str(run / "report.html") in capsys.readouterr().out
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Loss by step. train: 2.5 → 2; eval: 2.25" in page
    assert "<dt>lowest loss of held-out rows</dt><dd>2.25</dd>" in page
    assert "<dt>tokens</dt><dd>210</dd>" in page
    assert "triptych sft --data a.jsonl" in page
    assert "Warning: &lt;b&gt; &amp; more" in page
    assert [name for name in ("loss", "grad_norm", "learning_rate", "num_tokens") if f"panel-{name}" not in page] == []
    assert "panel-entropy" not in page, "nothing of it was logged"
    assert 'id="controls"' not in page, "there are no cards to look for"


def test_two_runs_are_drawn_together(tmp_path):
    run, other = a_run(tmp_path / "one"), a_run(tmp_path / "two", log=[{**LOG[0], "loss": 9.0}])
    assert main([str(run), "--compare", str(other), "-o", str(tmp_path / "both.html")]) == 0
    page = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert "one against two" in page
    assert "train (two): 9" not in page
    assert "(two): 9" in page


def test_a_comparison_does_not_replace_the_page_of_the_run(tmp_path, capsys):
    run, other = a_run(tmp_path / "one"), a_run(tmp_path / "two")
    assert main([str(run)]) == 0
    before = (run / "report.html").read_bytes()
    assert main([str(run), "--compare", str(other)]) == 0
    assert f"report: {run / 'compared.html'}" in capsys.readouterr().out
    assert (run / "report.html").read_bytes() == before
    assert not (other / "report.html").exists()


def test_a_run_of_rewards_without_rollouts_is_refused_as_before(tmp_path, capsys):
    run = a_run(tmp_path / "grpo", log=[{**LOG[0], "reward": 1.0}])
    assert main([str(run)]) == 2
    assert "rollouts" in capsys.readouterr().err
