"""A sequence classifier as reward: TRL scores the text of prompt and completion with it."""

from typing import Any

from transformers import AutoModelForSequenceClassification, PreTrainedModel

from triptych_trainer.errors import UsageError
from triptych_trainer.rewards.loading import PREFIX

__all__ = ["load_reward_model", "reward_name"]


def load_reward_model(spec: str) -> PreTrainedModel:
    """Load the model that ``model:<folder or hub id>`` names; its own tokenizer and chat template render the text.

    Raises:
        UsageError: nothing can be loaded, or its head gives more than one score.
    """
    path = spec.removeprefix(PREFIX)
    try:
        model = AutoModelForSequenceClassification.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"--reward {spec}: no reward model can be loaded: {' '.join(str(error).split())}") from error
    if model.config.num_labels != 1:
        raise UsageError(
            f"--reward {spec}: expected a head with one score, got {model.config.num_labels} labels; a reward model "
            "is trained with num_labels=1"
        )
    return model.eval()


def reward_name(reward: Any) -> str:
    """Return the name under which TRL logs a reward: a function's own, or the last part of a model's path."""
    if isinstance(reward, PreTrainedModel):
        return str(reward.config._name_or_path).split("/")[-1]
    return getattr(reward, "__name__", type(reward).__name__)
