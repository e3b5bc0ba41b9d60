"""Models of several families that a run has saved: stock transformers loads them, and vLLM samples from them."""

import gc
import importlib.util
import os
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from triptych_trainer.checkpoints.result import save_result

FAMILIES = ("qwen3_vl", "internvl", "idefics3", "mistral3")
"""Besides Qwen2.5-VL, which the other tests have. vLLM 0.31 finds no towers of CLIP and SigLIP (LLaVA, Gemma 3)."""
BAR = 0.015
"""What other trainers ask of an engine before they trust it."""


@pytest.fixture(scope="module")
def kits():
    path = Path(__file__).parents[1] / "families" / "kits" / "__init__.py"
    name = "triptych_family_kits"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=[str(path.parent)])
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def wide_enough(model):
    """The same tiny model with heads of 32: the smallest that vLLM's attention for CPUs takes."""
    config = model.config
    text = config.get_text_config()
    text.hidden_size, text.intermediate_size = 128, 192
    text.head_dim = 32
    if (rope := getattr(text, "rope_parameters", None)) and "mrope_section" in rope:
        rope["mrope_section"] = [8, 4, 4]
    for part in (config, getattr(config, "vision_config", None)):
        if getattr(part, "out_hidden_size", None):
            part.out_hidden_size = 128
    torch.manual_seed(0)
    return type(model)(config)


@pytest.fixture(scope="module", params=FAMILIES)
def saved(request, kits, build, tmp_path_factory):
    """The folder that a run of one family has written."""
    case = kits.CASES[request.param]
    processor = case.processor()
    model = wide_enough(case.model(processor.tokenizer))
    output = tmp_path_factory.mktemp(request.param)
    trainer = build({"processor": processor}, model=model, use_vllm=False, output_dir=str(output))
    save_result(trainer)
    return output


def test_stock_classes_and_vllm_load_what_a_run_saves(saved, build, cpu_engine):
    """`ENGINE_STEPS=20 make vllm-check` prints the rows of the table of docs/rollouts.md."""
    assert type(AutoProcessor.from_pretrained(saved)).__name__.endswith("Processor")
    assert type(AutoModelForImageTextToText.from_pretrained(saved)).__name__.endswith("ForConditionalGeneration")
    steps = int(os.environ.get("ENGINE_STEPS", "2"))
    trainer = build(
        model=saved, vllm_mode="colocate", vllm_max_model_length=1024, vllm_gpu_memory_utilization=0.3, max_steps=steps
    )
    trainer.train()
    lines = [line for line in trainer.state.log_history if "sampling/mismatch_kl" in line]
    assert len(lines) == steps
    largest = {}
    for line in lines:
        for name, value in line.items():
            if name.startswith("sampling/mismatch_kl"):
                largest[name] = max(value, largest.get(name, 0.0))
    print(saved.name, {name: f"{value:.1e}" for name, value in largest.items()}, f"largest of {steps} steps")
    assert max(value for name, value in largest.items() if not name.endswith("max")) < BAR
    assert {f"sampling/mismatch_kl/images_{number}" for number in range(5)} <= set(largest)
    del trainer
    gc.collect()
