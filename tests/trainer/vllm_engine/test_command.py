"""`train --use_vllm true` on a real engine in its process, as a user starts it."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "in_processes" / "cpu_engine.py"


def test_a_run_with_a_colocated_engine_ends_with_0(model_dir, write_rows, tmp_path, alone):
    output = tmp_path / "out"
    words = [
        *("--model_name_or_path", str(model_dir), "--data", str(write_rows([1, 2, 0, 3])), "--output_dir", str(output)),
        *("--use_vllm", "true", "--vllm_mode", "colocate", "--vllm_max_model_length", "1024"),
        *("--use_cpu", "True", "--bf16", "False", "--num_generations", "2", "--per_device_train_batch_size", "4"),
        *("--gradient_accumulation_steps", "1", "--max_completion_length", "4", "--memory_forecast", "false"),
        *("--max_steps", "2", "--save_steps", "1", "--report_to", "none", "--vllm_gpu_memory_utilization", "0.3"),
    ]
    run = subprocess.run(
        [sys.executable, SCRIPT, *words], env=alone, capture_output=True, text=True, check=False, timeout=500
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert (output / "model.safetensors").is_file()
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "vLLM against the trainer" in page
    assert "panel-mismatch" in page
