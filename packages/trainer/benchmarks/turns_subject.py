"""What is measured of rollouts with tools: a tool that returns an image, and trainers of both kinds over one model."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from transformers import TrainerCallback
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
from trl import GRPOConfig, GRPOTrainer
from turns_model import Case, build_model, build_processor, let_say, scripts


@dataclass(kw_only=True, slots=True)
class Measured:
    """What one step took; seconds are those of the process's CPU time."""

    generation_seconds: float = 0.0
    policy_seconds: float = 0.0
    wall_seconds: float = 0.0
    preprocessed: int = 0
    encoded: int = 0
    prefilled_tokens: int = 0
    """Tokens that were forwarded before sampling, pads and repetitions left in."""
    completion_ids: list[list[int]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return self.generation_seconds + self.policy_seconds


def noise(number: int, side_pixels: int) -> Image.Image:
    """A picture unlike that of every other number."""
    values = np.random.default_rng(number).integers(0, 256, (side_pixels, side_pixels, 3), dtype=np.uint8)
    return Image.fromarray(values)


def zoom_of(side_pixels: int) -> Callable[..., Any]:
    """The tool: a plain function, as TRL takes it."""

    def zoom(x: int, y: int) -> list:  # type: ignore[type-arg]
        """Look closer at a place.

        Args:
            x: The column.
            y: The row.
        """
        return [{"type": "image", "image": noise(1000 + 100 * y + x, side_pixels)}]

    return zoom


def arguments(folder: Path, case: Case, *, saves_activations: bool = False) -> GRPOConfig:
    """TRL's defaults on a CPU in float32: one prompt, one step; checkpointing is on unless activations are saved."""
    return GRPOConfig(
        **({"gradient_checkpointing": False} if saves_activations else {}),
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        max_steps=1,
        num_generations=case.group,
        per_device_train_batch_size=case.group,
        max_completion_length=(case.turns + 1) * (case.sampled_tokens + (case.side_pixels // 32) ** 2 + 40),
        max_tool_calling_iterations=case.turns,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        learning_rate=1e-5,
    )


def dataset(case: Case) -> Dataset:
    """One prompt, in TRL's columns."""

    def rows(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        parts: list[dict[str, str]] = []
        for k in range(case.num_images):
            parts += [{"type": "text", "text": f"Part {k + 1} "}, {"type": "image"}, {"type": "text", "text": " . "}]
        messages = [{"role": "user", "content": [*parts, {"type": "text", "text": "Which ?"}]}]
        shown = [noise(k, case.side_pixels) for k in range(case.num_images)]
        return {"prompt": [messages for _ in batch["row"]], "images": [shown for _ in batch["row"]]}

    return Dataset.from_dict({"row": [0]}).with_transform(rows)


class Reward:
    """Another number for each rollout; keeps their tokens."""

    __name__ = "reward"

    def __init__(self) -> None:
        self.completion_ids: list[list[int]] = []

    def __call__(self, completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        """Score by the number of the row."""
        self.completion_ids = [list(ids) for ids in completion_ids]
        return [float(k) for k in range(len(completion_ids))]


def trainer_of(kind: str, folder: Path, case: Case) -> GRPOTrainer:
    """`trl` or `triptych`, over the same rows, weights, tool and script."""
    processor = build_processor(case.side_pixels)
    model = build_model(case, processor.tokenizer)
    let_say(model, scripts(case, processor.tokenizer))
    common = {
        "args": arguments(folder, case, saves_activations=case.saves_activations and kind == "triptych"),
        "train_dataset": dataset(case),
        "processing_class": processor,
        "tools": [zoom_of(case.side_pixels)],
    }
    if kind == "trl":
        return GRPOTrainer(model, Reward(), **common)
    trainer = MultiImageGRPOTrainer(model, Reward(), verify_model=False, **common)
    trainer.engine.verify = False  # the comparison at first use is made once in a run, and not in every step
    return trainer


def measure(trainer: GRPOTrainer) -> Measured:
    """Train one step; count images, tokens and seconds."""
    found = Measured()
    trainer.log = lambda *args, **kwargs: None
    _count_calls(trainer, found)
    collect = trainer._generate_and_score_completions

    def timed(inputs: Any) -> Any:
        start = time.process_time()
        batch = collect(inputs)
        found.generation_seconds = time.process_time() - start
        return batch

    trainer._generate_and_score_completions = timed
    clock = _Clock()
    trainer.add_callback(clock)
    trainer.train()
    found.policy_seconds = clock.cpu_seconds - found.generation_seconds
    found.wall_seconds = clock.wall_seconds
    found.completion_ids = trainer.reward_funcs[0].completion_ids
    return found


class _Clock(TrainerCallback):
    def __init__(self) -> None:
        self.cpu_seconds = self.wall_seconds = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.began = (time.process_time(), time.monotonic())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.cpu_seconds = time.process_time() - self.began[0]
        self.wall_seconds = time.monotonic() - self.began[1]


def _count_calls(trainer: GRPOTrainer, found: Measured) -> None:
    """Count images through the image processor and the tower, and tokens of calls that fill a cache."""
    processor = trainer.processing_class.image_processor
    stock = type(processor)

    def call(self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        found.preprocessed += sum(len(row) if isinstance(row, (list, tuple)) else 1 for row in images if row)
        return stock.__call__(self, images, *args, **kwargs)

    def encode(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        found.encoded += len(kwargs["grid_thw"])

    def forward(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        ids_BT = kwargs.get("input_ids")
        if ids_BT is not None and ids_BT.shape[1] > 1 and not torch.is_grad_enabled():
            found.prefilled_tokens += ids_BT.numel()

    processor.__class__ = type(stock.__name__, (stock,), {"__call__": call})
    trainer.model.model.visual.register_forward_pre_hook(encode, with_kwargs=True)
    trainer.model.register_forward_pre_hook(forward, with_kwargs=True)
