"""Two gloo processes learn from conversations what one process learns, all weights and adapters alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import triptych_trainer.commands
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from .ranks import difference, start_ranks

SFT_BY_ZERO = Path(__file__).with_name("sft_by_zero.py")
SFT_SCRIPT = Path(triptych_trainer.commands.__path__[0]) / "sft.py"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ZERO = {
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "zero_optimization": {"stage3_param_persistence_threshold": 0, "stage3_gather_16bit_weights_on_model_save": True},
    "zero_allow_untested_optimizer": True,
    "zero_force_ds_cpu_optimizer": False,
}
SFT = ("--max_steps", "2", "--lr_scheduler_type", "constant", "--learning_rate", "0.01", "--optim", "sgd")
SFT += ("--max_grad_norm", "0", "--save_strategy", "no", "--use_cpu", "true")
ADAPTERS = ("--use_peft", "--lora_r", "4", "--lora_dropout", "0")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The adapters of a folder, or its model's parameters under the names of transformers."""
    adapters = folder / "adapter_model.safetensors"
    return (
        load_file(adapters) if adapters.exists() else AutoModelForImageTextToText.from_pretrained(folder).state_dict()
    )


@pytest.mark.parametrize(
    ("backend", "more"),
    [
        ("ddp", ("--packing",)),
        ("fsdp2", ()),
        ("zero2", ("--packing",)),
        ("zero3", ()),
        ("ddp", ADAPTERS),
        ("fsdp2", ("--packing", *ADAPTERS)),
    ],
    ids=["ddp", "fsdp2", "zero2", "zero3", "ddp, adapters", "fsdp2, adapters"],
)
def test_two_ranks_learn_from_conversations_what_one_process_learns(
    fork: Any, model_dir: Path, rows: Path, tmp_path: Path, backend: str, more: tuple[str, ...]
) -> None:
    """The rows have 2, 1, 0, 0, ... images, so that a rank may have none; the replies differ in length."""
    given = [json.loads(line) for line in rows.read_text().splitlines()]
    for number, row in enumerate(given):
        row["conversations"][-1]["value"] = "red thing " * (1 + number % 3)
    (rows.parent / "said.jsonl").write_text("\n".join(map(json.dumps, given)))
    found = {}
    for ranks in (1, 2):
        out = tmp_path / str(ranks)
        words = ("--model", str(model_dir), "--data", str(rows.parent / "said.jsonl"), "--output_dir", str(out), *SFT)
        words += ("--per_device_train_batch_size", str(4 // ranks), *more)
        script = SFT_SCRIPT
        if backend.startswith("zero") and ranks > 1:
            pytest.importorskip("deepspeed")
            script, stage = SFT_BY_ZERO, tmp_path / "zero.json"
            zero = {**ZERO["zero_optimization"], "stage": int(backend[-1])}
            stage.write_text(json.dumps({**ZERO, "zero_optimization": zero}))
            words += ("--deepspeed", str(stage))
        for process in start_ranks(fork, words, backend=backend if ranks > 1 else "ddp", ranks=ranks, script=script):
            done = process.wait()
            assert done.returncode == 0, done.stderr[-3000:]
        log = json.loads((out / "trainer_state.json").read_text())["log_history"]
        found[ranks] = {
            "parameters": weights(out),
            "losses": [entry["loss"] for entry in log if "loss" in entry],
            "tokens": [entry["num_tokens"] for entry in log if "num_tokens" in entry],
        }
    assert found[2]["losses"] == pytest.approx(found[1]["losses"], abs=1e-5)
    assert found[2]["tokens"] == found[1]["tokens"]
    if "--use_peft" in more:  # the second factors begin at zero
        expected = {name: value for name, value in found[1]["parameters"].items() if "lora_B" in name}
        assert found[1]["parameters"].keys() == found[2]["parameters"].keys()
        start = {name: torch.zeros_like(value) for name, value in expected.items()}
    else:
        expected, start = found[1]["parameters"], weights(model_dir)
    assert difference(start, expected, found[2]) < 1e-4
