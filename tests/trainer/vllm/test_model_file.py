"""The files of named models for vLLM start runs, whose prompts go to the engine."""

from pathlib import Path

import pytest
from triptych_trainer.commands.train import main
from triptych_trainer.grpo.trl.mismatch_watch import MismatchWarning

FILES = sorted((Path(__file__).resolve().parents[3] / "examples" / "models").glob("*/vllm.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda path: path.parent.name)
def test_the_file_for_vllm_starts(file, vllm_trainer, vllm_made, model_dir, write_rows, tmp_path, capsys):
    places = ["--model_name_or_path", str(model_dir), "--data", str(write_rows([2, 1])), "--image_root", str(tmp_path)]
    small = ["--num_generations", "2", "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "1"]
    cpu = ["--use_cpu", "True", "--bf16", "False", "--dtype", "float32", "--memory_forecast", "false"]
    given = ["--config", str(file), *places, *small, *cpu, "--max_steps", "1", "--output_dir", str(tmp_path / "out")]
    with pytest.warns(MismatchWarning, match="step 0: mismatch_kl is"):  # the stand-in's are some numbers
        assert main(given) == 0, capsys.readouterr().err[-2000:]
    (fake,) = vllm_made
    assert (fake.mode, len(fake.calls)) == ("colocate", 1)
    assert fake.options["gpu_memory_utilization"] == 0.35
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
