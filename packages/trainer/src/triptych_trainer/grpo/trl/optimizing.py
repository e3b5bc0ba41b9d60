"""How a training gets its optimizer and its schedule: what transformers refuses, or would not read, is one sentence."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.trl.one_sentence import one_sentence
from triptych_trainer.models.learning_rates import set_vision_learning_rate

__all__ = ["OptimizingTrainer", "unread_of_optim_args"]


class OptimizingTrainer(Trainer):
    """Makes transformers' optimizer and schedule; a base before a trainer of TRL."""

    vision_learning_rate: float | None = None
    """Learning rate of the parameters outside the language model; None: that of the arguments."""

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Make transformers' optimizer, with own parameter groups for a tower that has its own learning rate.

        Raises:
            UsageError: a package is missing, or the optimizer would not read an entry of ``--optim_args``.
        """
        fresh = self.optimizer is None
        trained = self.model if model is None else model
        given = self.args.optim_args
        options = f"--optim {_word(self.args.optim)}" + (f" with --optim_args {given}" if given else "")
        with one_sentence(options, ImportError, ValueError, *((TypeError,) if given else ())):
            optimizer = super().create_optimizer(model)
            unread = unread_of_optim_args(self.args, trained) if fresh else []
        if unread:
            raise UsageError(
                f"--optim_args {', '.join(unread)}: --optim {_word(self.args.optim)} reads no such entry; leave it out"
            )
        if fresh and self.vision_learning_rate is not None:
            set_vision_learning_rate(optimizer, trained, self.vision_learning_rate)
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Do as transformers does, with the same arguments."""
        kind, given = getattr(self.args.lr_scheduler_type, "value", ""), self.args.lr_scheduler_kwargs or {}
        with one_sentence(f"--lr_scheduler_type {kind} with --lr_scheduler_kwargs {given}", TypeError, ValueError):
            return super().create_scheduler(num_training_steps, optimizer)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Do as transformers does, with the same arguments."""
        with one_sentence(f"--metric_for_best_model {self.args.metric_for_best_model}", KeyError):
            return bool(super()._determine_best_metric(metrics, trial))


def unread_of_optim_args(args: TrainingArguments, model: Any) -> list[str]:
    """Return the names in ``optim_args`` that the optimizer does not read: transformers drops them without a word.

    A name is read if its value, or another one in its place, changes what the optimizer is made with.
    """
    given = dict(pair.split("=", 1) for pair in (args.optim_args or "").replace(" ", "").split(",") if "=" in pair)
    return [name for name in given if not _is_read(args, model, given, name)]


def _is_read(args: TrainingArguments, model: Any, given: dict[str, str], name: str) -> bool:
    without = _made_with(args, model, {other: value for other, value in given.items() if other != name})
    for value in (given[name], f"{given[name]}1", "true"):
        try:
            if _made_with(args, model, {**given, name: value}) != without:
                return True
        except (ValueError, AttributeError):  # it was read, and is no value that it may have
            return True
    return False


def _made_with(args: TrainingArguments, model: Any, given: dict[str, str]) -> dict[str, Any]:
    """What the optimizer is made with; ``args`` are left as they were."""
    before = args.optim_args
    args.optim_args = ",".join(f"{name}={value}" for name, value in given.items()) or None
    try:
        return dict(Trainer.get_optimizer_cls_and_kwargs(args, model)[1])
    finally:
        args.optim_args = before


def _word(optim: Any) -> str:
    return str(getattr(optim, "value", optim))
