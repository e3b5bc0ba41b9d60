"""Models of several families that a run has saved: stock transformers loads them, and vLLM samples from them."""

import gc
import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor
from triptych_trainer.checkpoints.result import save_result

FAMILIES = ("qwen3_vl", "internvl", "idefics3", "mistral3", "gemma3", "llava")
"""Besides Qwen2.5-VL, which the other tests have."""
ONE_LEVEL_MORE = ("gemma3", "llava")
"""Published folders have `vision_model` in the names of the tower's weights, and models in transformers 5 have not."""
NEED_TORCHVISION = ("idefics3", "mistral3")
"""transformers 5.17 builds these processors with torchvision only, so that no run without it saves one."""
BAR = 0.015
"""What other trainers ask of an engine before they trust it."""
WITHOUT_TORCHVISION = """
import sys

sys.modules["torchvision"] = None
from transformers.utils import is_torchvision_available
from triptych_data.processors import load_processor

assert not is_torchvision_available()
for folder in sys.argv[1:]:
    load_processor(folder).save_pretrained(folder)
"""


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


def as_published(model, folder):
    """The model as it is loaded from a folder in the layout of the hub."""
    model.save_pretrained(folder)
    file = folder / "model.safetensors"
    renamed = {
        name.replace("vision_tower.", "vision_tower.vision_model."): one for name, one in load_file(file).items()
    }
    save_file(renamed, file, metadata={"format": "pt"})
    return AutoModelForImageTextToText.from_pretrained(folder)


@dataclass(frozen=True)
class Saved:
    """The folders that a run of one family writes."""

    folder: Path
    without_torchvision: Path | None
    """With the processor as it is saved on a machine without torchvision; None where none can be."""


@pytest.fixture(scope="module")
def saved(kits, build, tmp_path_factory):
    found = {}
    for family in FAMILIES:
        case, root = kits.CASES[family], tmp_path_factory.mktemp(family)
        processor = case.processor()
        if family == "gemma3":
            processor.tokenizer.add_tokens(["\n" * count for count in range(1, 5)])  # vLLM counts on these
        model = kits.spread(wide_enough(case.model(processor.tokenizer)), case.spared)
        if family in ONE_LEVEL_MORE:
            model = as_published(model, root / "hub")
        output = root / family
        save_result(build({"processor": processor}, model=model, use_vllm=False, output_dir=str(output)))
        apart = None if family in NEED_TORCHVISION else root / f"{family} without torchvision"
        if apart is not None:
            shutil.copytree(output, apart)
        found[family] = Saved(folder=output, without_torchvision=apart)
    apart = [str(one.without_torchvision) for one in found.values() if one.without_torchvision is not None]
    subprocess.run([sys.executable, "-c", WITHOUT_TORCHVISION, *apart], check=True)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_stock_classes_and_vllm_load_what_a_run_saves(family, saved, build, cpu_engine):
    """vLLM gets the folder that was written without torchvision, if any; stock classes read the same out of both.

    `ENGINE_STEPS=20 make vllm-check` prints the rows of the table of docs/rollouts.md.
    """
    folder, apart = saved[family].folder, saved[family].without_torchvision
    assert type(AutoProcessor.from_pretrained(folder)).__name__.endswith("Processor")
    if apart is not None:
        assert AutoProcessor.from_pretrained(apart).to_dict() == AutoProcessor.from_pretrained(folder).to_dict()
    assert type(AutoModelForImageTextToText.from_pretrained(folder)).__name__.endswith("ForConditionalGeneration")
    steps = int(os.environ.get("ENGINE_STEPS", "2"))
    trainer = build(
        model=apart or folder,
        vllm_mode="colocate",
        vllm_max_model_length=1024,
        vllm_gpu_memory_utilization=0.3,
        max_steps=steps,
    )
    trainer.train()
    lines = [line for line in trainer.state.log_history if "sampling/mismatch_kl" in line]
    assert len(lines) == steps
    largest = {}
    for line in lines:
        for name, value in line.items():
            if name.startswith("sampling/mismatch_kl"):
                largest[name] = max(value, largest.get(name, 0.0))
    print(family, {name: f"{value:.1e}" for name, value in largest.items()}, f"largest of {steps} steps")
    assert max(value for name, value in largest.items() if not name.endswith("max")) < BAR
    assert {f"sampling/mismatch_kl/images_{number}" for number in range(5)} <= set(largest)
    del trainer
    gc.collect()
