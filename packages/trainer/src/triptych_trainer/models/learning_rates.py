"""A learning rate of its own for the vision tower."""

import torch

from triptych_trainer.errors import UsageError
from triptych_trainer.models.families import family_of
from triptych_trainer.models.unwrap import unwrap

__all__ = ["set_vision_learning_rate", "trainable_vision_parameters"]


def trainable_vision_parameters(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Return the parameters outside the language model and its head that take a gradient, adapters on them included."""
    base = unwrap(model)
    family = family_of(base)
    return [p for p in family.vision_parameters(family.vision_language_model(base)) if p.requires_grad]


def set_vision_learning_rate(optimizer: torch.optim.Optimizer, model: torch.nn.Module, learning_rate: float) -> None:
    """Move the tower's parameters of a fresh optimizer into parameter groups with their own learning rate.

    Each group is split in two that differ in nothing else, so that weight decay stays as it was; the schedule scales
    every group from its own rate. The first group, whose rate is logged, stays the language model's.

    Raises:
        UsageError: nothing of the tower is trained.
    """
    vision = {id(parameter) for parameter in trainable_vision_parameters(model)}
    if not vision:
        raise UsageError(
            f"--vision_learning_rate {learning_rate}: no parameter of the vision tower is trained; drop it, or drop "
            "--freeze_vision_modules, or name the tower's layers with --lora_target_modules"
        )
    for group in list(optimizer.param_groups):
        moved = [parameter for parameter in group["params"] if id(parameter) in vision]
        if moved:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in vision]
            options = {name: value for name, value in group.items() if name != "params"}
            optimizer.add_param_group({**options, "params": moved, "lr": learning_rate})
