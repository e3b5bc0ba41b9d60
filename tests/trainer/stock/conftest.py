"""Stock TRL trainers on the same rows, model and seed as Triptych's."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from triptych_data import Example, load_image, read_examples
from triptych_trainer.models.load import freeze_vision_modules
from trl import GRPOConfig, GRPOTrainer


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A trained trainer, the completions that it sampled and its parameters."""

    trainer: GRPOTrainer
    completions: list[list[list[int]]] = field(default_factory=list)
    """Per call of the reward function, the ids of every row's completion."""

    @property
    def parameters(self) -> torch.Tensor:
        """All parameters as one float64 vector, in the order of their names."""
        named = sorted(self.trainer.model.named_parameters())
        return torch.cat([values.detach().double().flatten() for _, values in named])

    @property
    def trained_adapters(self) -> torch.Tensor:
        """The B matrices of all adapters, which start at zero, as one float64 vector."""
        named = sorted(self.trainer.model.named_parameters())
        return torch.cat([values.detach().double().flatten() for name, values in named if "lora_B" in name])

    def logged(self, name: str) -> list[float]:
        """What the trainer logged under ``name``, step by step."""
        return [entry[name] for entry in self.trainer.state.log_history if name in entry]


def recording(completions: list[list[list[int]]]) -> Callable[..., list[float]]:
    """A reward with variance on random ids that also keeps them."""

    def reward(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        completions.append([list(ids) for ids in completion_ids])
        return [float(sum(ids) % 13) for ids in completion_ids]

    return reward


def stock_dataset(examples: Sequence[Example]) -> Dataset:
    """Rows as TRL wants them for prompts with images in the text: parts in the messages, images beside them."""

    def rows(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        chosen = [examples[index] for index in batch["example"]]
        columns: dict[str, list[Any]] = {"prompt": [example.prompt.messages() for example in chosen]}
        if any(example.images for example in examples):
            columns["images"] = [[load_image(source) for source in example.images] for example in chosen]
        return columns

    return Dataset.from_dict({"example": list(range(len(examples)))}).with_transform(rows)


@pytest.fixture
def options(loaded: tuple[Any, Any], tmp_path: Path) -> dict[str, Any]:
    """GRPOConfig options that both trainers share: float32, and all vision ids banned, which stock TRL does not do."""
    config = loaded[0].config
    banned = (config.image_token_id, config.video_token_id, config.vision_start_token_id, config.vision_end_token_id)
    return {
        "output_dir": str(tmp_path / "out"),
        "use_cpu": True,
        "bf16": False,
        "max_steps": 5,
        "num_generations": 4,
        "per_device_train_batch_size": 8,
        "max_completion_length": 8,
        "generation_kwargs": {"suppress_tokens": list(banned)},
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_steps": 1,
        "lr_scheduler_type": "constant",
        "gradient_checkpointing": True,
    }


@pytest.fixture
def build_stock(loaded: tuple[Any, Any], options: dict[str, Any]) -> Callable[..., Run]:
    """Build stock TRL's trainer on a data file; keyword arguments are GRPOConfig options."""

    def build(data: Path, *, freeze_vision: bool = False, peft_config: Any = None, **changes: Any) -> Run:
        model, processor = copy.deepcopy(loaded)
        if freeze_vision:
            freeze_vision_modules(model)
        completions: list[list[list[int]]] = []
        trainer = GRPOTrainer(
            model,
            recording(completions),
            args=GRPOConfig(**{**options, **changes}),
            train_dataset=stock_dataset(list(read_examples(data))),
            processing_class=processor,
            peft_config=peft_config,
        )
        return Run(trainer=trainer, completions=completions)

    return build


@pytest.fixture
def build_ours(make_trainer: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Run]:
    """Build Triptych's trainer on a data file; keyword arguments are GRPOConfig options."""

    def build(data: Path, **changes: Any) -> Run:
        completions: list[list[list[int]]] = []
        trainer = make_trainer(data, rewards=[recording(completions)], **{**options, **changes})
        return Run(trainer=trainer, completions=completions)

    return build


@pytest.fixture
def train_stock(build_stock: Callable[..., Run]) -> Callable[..., Run]:
    """Build and train with stock TRL."""

    def train(data: Path, **changes: Any) -> Run:
        run = build_stock(data, **changes)
        run.trainer.train()
        return run

    return train


@pytest.fixture
def train_ours(build_ours: Callable[..., Run]) -> Callable[..., Run]:
    """Build and train with Triptych."""

    def train(data: Path, **changes: Any) -> Run:
        run = build_ours(data, **changes)
        run.trainer.train()
        return run

    return train


@pytest.fixture
def initial(loaded: tuple[Any, Any]) -> torch.Tensor:
    """The parameters before training, as ``Run.parameters``."""
    return torch.cat([values.detach().double().flatten() for _, values in sorted(loaded[0].named_parameters())])
