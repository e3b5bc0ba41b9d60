"""A sequence classifier as reward: TRL scores the text of prompt and completion with it."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from triptych_trainer.errors import UsageError
from triptych_trainer.rewards.loading import PREFIX, check_model_spec

__all__ = ["check_reward_model", "load_reward_model"]


def load_reward_model(spec: str) -> PreTrainedModel:
    """Load the model that ``model:<folder or hub id>`` names; its own tokenizer and chat template render the text.

    Raises:
        UsageError: nothing can be loaded, or its head gives more than one score.
    """
    check_reward_model(spec)
    path = spec.removeprefix(PREFIX)
    try:
        model = AutoModelForSequenceClassification.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise _not_loaded(spec, error) from error
    _check_head(spec, model.config)
    return model.eval()


def check_reward_model(spec: str) -> None:
    """Check what can be said of a reward model without its weights: its name, and in a folder its config.

    Raises:
        UsageError: there is no such folder, or none of a model, or its head gives more than one score.
    """
    try:
        check_model_spec(spec)
    except ValueError as error:
        raise UsageError(f"--reward {error}") from error
    path = spec.removeprefix(PREFIX)
    if not Path(path).is_dir():
        return
    try:
        config = AutoConfig.from_pretrained(path)
    except Exception as error:  # a broken config fails anywhere in transformers
        raise _not_loaded(spec, error) from error
    _check_head(spec, config)


def _not_loaded(spec: str, error: Exception) -> UsageError:
    said = " ".join(str(error).split()).rstrip(".")
    return UsageError(
        f"--reward {spec}: no reward model can be loaded: {said}; name the folder or hub id of a sequence classifier"
    )


def _check_head(spec: str, config: Any) -> None:
    if config.num_labels != 1:
        raise UsageError(
            f"--reward {spec}: expected a head with one score, got {config.num_labels} labels; a reward model is "
            "trained with num_labels=1"
        )
