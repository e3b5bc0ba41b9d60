"""Trainers whose rollouts come from a real vLLM engine on the CPU; collected only where vLLM is installed.

`make vllm-check` makes such an environment. What the CPU build of vLLM needs beside a GPU's is done here, and none of
it concerns the trainer: the two operators of torchvision that its wheel brings for CUDA only, linear layers that keep
their weights after loading, and float32 without compilation.
"""

import functools
import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

HAS_VLLM = importlib.util.find_spec("vllm") is not None
collect_ignore_glob = [] if HAS_VLLM else ["test_*.py"]

for name, value in {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}.items():
    os.environ.setdefault(name, value)

BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def define_missing_operators() -> None:
    """Declare what torchvision's Python code registers a shape rule for, and its library would have declared."""
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", BOXES)


def keep_linear_weights() -> None:
    """Let CPU linear layers keep their weights, so that weights can be loaded again as they are on a GPU."""
    from vllm.model_executor.layers import linear, utils

    def plain(layer: Any, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    for module in (utils, linear):
        if hasattr(module, "dispatch_cpu_unquantized_gemm"):
            module.dispatch_cpu_unquantized_gemm = plain


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let vLLM's own warnings be warnings."""
    for item in items:
        if Path(item.fspath).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings("default"))


if HAS_VLLM:
    define_missing_operators()


@pytest.fixture(scope="session")
def cpu_engine() -> Iterator[None]:
    """Give TRL's engine the options that a CPU needs."""
    import trl.generation.vllm_generation as module

    keep_linear_weights()
    stock = module.LLM
    module.LLM = functools.partial(stock, dtype="float32", enforce_eager=True)
    yield
    module.LLM = stock


@pytest.fixture(scope="session")
def trainer(model_dir: Path, cpu_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A trainer that samples from an engine in this process: the one engine of all tests, for it starts slowly.

    Its rows hold 0, 1, 2, 3 and 4 images, then one image three times, then two images that have to be resized.
    """
    from transformers import AutoModelForImageTextToText
    from triptych_data import ImageLoader, read_examples
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
    from triptych_trainer.models.load import load_processor
    from triptych_trainer.prompts.example_table import ExampleTable
    from triptych_trainer.prompts.prepare import PromptPreparer
    from trl import GRPOConfig

    folder = tmp_path_factory.mktemp("rows")
    args = GRPOConfig(
        output_dir=str(folder / "out"),
        use_cpu=True,
        bf16=False,
        max_steps=2,
        num_generations=2,
        per_device_train_batch_size=14,
        max_completion_length=8,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=1,
        learning_rate=1e-4,
        gradient_checkpointing=False,
        use_vllm=True,
        vllm_mode="colocate",
        vllm_max_model_length=1024,
        vllm_gpu_memory_utilization=0.3,
    )
    with ImageLoader(threads=1) as loader:
        yield MultiImageGRPOTrainer(
            AutoModelForImageTextToText.from_pretrained(model_dir),
            [lambda completions, **_: [float(len(text)) for text in completions]],
            args=args,
            train_dataset=ExampleTable(list(read_examples(draw_rows(folder)))),
            preparer=PromptPreparer(load_processor(str(model_dir)), loader=loader),
        )


def draw_rows(folder: Path) -> Path:
    """Write the rows of `trainer` and their images."""
    for number, (width, height) in enumerate([(56, 56), (84, 56), (56, 84), (112, 56), (130, 75), (61, 90)]):
        picture = Image.effect_mandelbrot((width, height), (-2, -1.5, 1, 1.5), 20 + number)
        Image.merge("RGB", [picture, picture.rotate(180), picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)]).save(
            folder / f"{number}.png"
        )
    images = [[], [0], [1, 0], [2, 1, 0], [3, 0, 1, 2], [1, 1, 1], [4, 5]]
    rows = [
        {
            "id": f"row-{k}",
            "image": [f"{number}.png" for number in numbers],
            "conversations": [
                {"from": "human", "value": "".join(f"Part {j} <image> . " for j in range(len(numbers))) + "Which ?"},
                {"from": "gpt", "value": "red"},
            ],
        }
        for k, numbers in enumerate(images)
    ]
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return path
