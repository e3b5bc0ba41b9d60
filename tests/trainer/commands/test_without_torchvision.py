"""A run on a machine without torchvision: it reads the processor, and stock transformers loads what it saves."""

import subprocess
import sys

import pytest
from transformers import AutoProcessor

HIDDEN = """
import importlib.metadata, sys

sys.modules["torchvision"] = None
sys.modules["bitsandbytes"] = None  # nothing here needs it, and its import takes 3 CPU seconds
found = importlib.metadata.version

def version(name):
    if name == "torchvision":
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)

importlib.metadata.version = version
from transformers.utils import is_torchvision_available
from triptych_trainer.cli import train

assert not is_torchvision_available()
sys.exit(train())
"""


@pytest.mark.slow  # a process of its own: one that was forked has modules which know of torchvision
def test_train_runs_without_torchvision_and_saves_a_folder_that_stock_loads(model_dir, write_rows, tmp_path):
    out = tmp_path / "out"
    options = [
        *("--model_name_or_path", str(model_dir), "--data", str(write_rows([1, 2])), "--reward", "format"),
        *("--output_dir", str(out), "--max_steps", "1", "--num_generations", "2", "--max_completion_length", "4"),
        *("--per_device_train_batch_size", "4", "--rollouts", "false", "--use_cpu", "True", "--bf16", "False"),
        *("--memory_forecast", "false"),
    ]
    run = subprocess.run([sys.executable, "-c", HIDDEN, *options], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    stock = AutoProcessor.from_pretrained(out)
    assert type(stock).__name__ == "Qwen2_5_VLProcessor"
    assert type(stock.video_processor).__name__ == "Qwen2VLVideoProcessor"
