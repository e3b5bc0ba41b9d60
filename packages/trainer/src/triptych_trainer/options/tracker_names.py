"""The words of ``--report_to``; importing this module loads nothing heavy."""

from collections.abc import Sequence

from triptych_data.option_parser import nearest

from triptych_trainer.errors import UsageError

__all__ = ["check_tracker_names"]

NAMES = (
    *("azure_ml", "clearml", "codecarbon", "comet_ml", "dagshub", "dvclive", "flyte", "kubeflow", "mlflow", "neptune"),
    *("swanlab", "tensorboard", "trackio", "wandb"),
)
"""What transformers calls its trackers."""
ALONE = ("all", "none")


def check_tracker_names(given: str | Sequence[str]) -> None:
    """Check that each word of ``--report_to`` is a tracker and is there once, or that "all" or "none" is alone.

    Raises:
        UsageError: names the word.
    """
    words = [given] if isinstance(given, str) else list(given)
    for word in words:
        if word in ALONE and len(words) > 1:
            others = " ".join(other for other in words if other != word) or "leave one out"
            raise UsageError(f"--report_to {' '.join(words)}: {word} excludes other names; write {word} or {others}")
        if word not in (*NAMES, *ALONE):
            known = ", ".join((*ALONE, *NAMES))
            raise UsageError(f"--report_to expects some of {known}, got {word!r}{nearest(word, (*ALONE, *NAMES))}")
        if words.count(word) > 1:
            raise UsageError(f"--report_to {' '.join(words)}: {word} is there twice; leave one out")
