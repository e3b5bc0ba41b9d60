"""A ``rollout_func`` as TRL's trainer takes it, as a player of Triptych's step."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.rewarding import TAKEN
from triptych_trainer.grpo.trl.vllm_sampler import update_vllm_now
from triptych_trainer.models.families import family_of
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.rollouts.rollout import RolloutGroup
from triptych_trainer.trajectories.rollout_function import RolloutFunction

if TYPE_CHECKING:
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer

__all__ = ["check_rollout_func", "own_rollouts", "slots_of"]


def check_rollout_func(rollout_func: Any, *, tools: Any, environment_factory: Any) -> None:
    """Check before anything is loaded that a loop of the user's own is the only one.

    Raises:
        UsageError: it is not, or it cannot be called.
    """
    if rollout_func is None:
        return
    if not callable(rollout_func):
        raise UsageError(f"rollout_func: expected a function of prompts and trainer, got {rollout_func!r}")
    for name, value in (("tools", tools), ("environment_factory", environment_factory)):
        if value:
            raise UsageError(
                f"rollout_func and {name}: both say how a rollout goes on; leave {name} out and call it in your "
                "function, or leave out the function"
            )


def own_rollouts(trainer: MultiImageGRPOTrainer, rollout_func: Any) -> RolloutFunction | None:
    """Return what makes rollouts by a user's own function, or None without such a function."""
    if rollout_func is None:
        return None
    base = unwrap(trainer.model)
    family = family_of(base)
    inner = family.vision_language_model(base) if family.takes_images else base

    def call(prompts: list[Any]) -> Any:
        if trainer.use_vllm:
            update_vllm_now(trainer)
        return rollout_func(prompts, trainer)

    return RolloutFunction(
        call=call,
        prompt_of=lambda group: prompt_with_images(trainer, group),
        preparer=trainer.preparer,
        num_rows=lambda image: family.num_rows(inner, image),
        num_tokens=base.config.get_text_config().vocab_size,
        slot_ids=slots_of(base),
        no_later_images=family.no_later_images,
        taken=TAKEN,
    )


def slots_of(model: Any) -> frozenset[int]:
    """Return the tokens of a model's vocabulary that are placeholders of images."""
    found = (getattr(model.config, name, None) for name in ("image_token_id", "image_token_index"))
    return frozenset(token for token in found if isinstance(token, int))


def prompt_with_images(trainer: MultiImageGRPOTrainer, group: RolloutGroup) -> str | list[dict[str, Any]]:
    """Return the prompt of a row as TRL gives it to a ``rollout_func``: with PIL images in the messages."""
    prompt, example = group.prompt, group.prompt.example
    if prompt.text is not None or not prompt.image_sizes:
        return copy.deepcopy(trainer.tables.prompt(group.key, example))
    pictures = trainer.preparer.loader.get(example)
    images = (pictures[number] for number in example.prompt.image_order)
    messages = example.prompt.messages()
    for message in messages:
        for part in message.get("content", ()):
            if part["type"] == "image":
                part["image"] = next(images)
    return messages
