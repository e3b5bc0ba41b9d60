"""The curve of how far vLLM was from the trained model."""

import json

import pytest
from triptych_trainer.report.build import mismatch_panels
from triptych_trainer.report.mismatch import mismatch_curves

HISTORY = [
    {
        "step": 1,
        "sampling/mismatch_kl": 0.001,
        "sampling/mismatch_kl/images_0": 0.0,
        "sampling/mismatch_kl/images_2": 0.1,
    },
    {"step": 2, "sampling/mismatch_kl": 0.002, "sampling/mismatch_kl/images_2": 0.2, "sampling/mismatch_kl/max": 9.0},
    {"step": 2, "train_loss": 1.0},
]


def write(folder, history):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": history}))


@pytest.mark.parametrize("place", ["", "checkpoint-2"])
def test_curves_are_read_from_the_log_of_a_run_or_of_its_checkpoint(tmp_path, place):
    write(tmp_path / place, HISTORY)
    found = {curve.name: (list(curve.steps), list(curve.values)) for curve in mismatch_curves(tmp_path)}
    assert found == {
        "all prompts": ([0, 1], [0.001, 0.002]),
        "no image": ([0], [0.0]),
        "2 images": ([0, 1], [0.1, 0.2]),
    }


def test_runs_without_vllm_have_no_such_panel(tmp_path):
    write(tmp_path / "plain", [{"step": 1, "loss": 0.5}])
    write(tmp_path / "vllm", HISTORY)
    assert mismatch_panels(tmp_path / "plain", None, names=("plain", None)) == []
    assert mismatch_panels(tmp_path / "gone", None, names=("gone", None)) == []
    (panel,) = mismatch_panels(tmp_path / "plain", tmp_path / "vllm", names=("plain", "vllm"))
    assert [series.label for series in panel.series] == ["all prompts (vllm)", "no image (vllm)", "2 images (vllm)"]
