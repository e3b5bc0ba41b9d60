"""A sequence classifier as reward: TRL scores the text of prompt and completion with it."""

from transformers import AutoModelForSequenceClassification, PreTrainedModel

from triptych_trainer.arguments import UsageError

__all__ = ["PREFIX", "load_reward_model"]

PREFIX = "model:"


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
