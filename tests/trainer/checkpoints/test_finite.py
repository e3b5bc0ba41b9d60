"""A run that has diverged ends in one sentence, and its weights replace nothing."""

import pytest
import torch
from triptych_trainer.checkpoints.finite import check_finite
from triptych_trainer.checkpoints.folder import CheckpointError
from triptych_trainer.commands.train import main


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_no_number_is_named_and_a_frozen_one_is_not_looked_at(tmp_path, value):
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)).to(torch.bfloat16)
    check_finite(model, output=tmp_path, step=2, device="cpu")
    with torch.no_grad():
        model[1].weight[2, 1] = value
    with pytest.raises(
        CheckpointError, match=r"after step 2 cannot be used any more \(1.weight has infin.*; start again"
    ):
        check_finite(model, output=tmp_path, step=2, device="cpu")
    model[1].requires_grad_(False)
    check_finite(model, output=tmp_path, step=2, device="cpu")


@pytest.mark.slow
def test_a_run_whose_weights_overflow_saves_neither_a_checkpoint_nor_a_model(model_dir, write_rows, tmp_path, capsys):
    out = tmp_path / "out"
    run = ["--model", str(model_dir), "--data", str(write_rows([0, 1, 0, 0])), "--output_dir", str(out), "--quiet"]
    run += ["--num_generations", "2", "--per_device_train_batch_size", "2", "--max_completion_length", "3"]
    run += ["--max_steps", "1", "--save_steps", "1", "--reward", f"{tmp_path / 'r.py'}:variety", "--no_rollouts"]
    run += ["--no_memory_forecast", "--verify_model", "off", "--gradient_accumulation_steps", "1"]
    (tmp_path / "r.py").write_text("def variety(completions, **_): return [1.0 + k for k in range(len(completions))]\n")
    later = [*run, "--max_steps", "3", "--save_steps", "3", "--learning_rate", "1e39"]
    assert main(later) == 2
    assert "train: error: the model's scores for the first token are infinite or no numbers" in capsys.readouterr().err
    assert main([*run, "--learning_rate", "1e39"]) == 2
    assert "train: error: the weights after step 1 cannot be used any more (" in capsys.readouterr().err
    assert not [*out.glob("checkpoint-*"), *out.glob("*.safetensors")]
