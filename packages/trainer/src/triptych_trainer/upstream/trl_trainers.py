"""A trainer of TRL compared with what is overridden and read of it, so that a change is one clear error."""

import inspect
from collections.abc import Mapping, Sequence

import transformers
import trl

from triptych_trainer.errors import IncompatibleVersionError

__all__ = ["CHECKPOINT_METHODS", "TESTED_TRL", "changed_method", "check_has", "check_signatures"]

TESTED_TRL = "1.16.x"
CHECKPOINT_METHODS: Mapping[str, tuple[str, ...]] = {
    "_finalize_training": ("self", "trial", "num_train_samples", "start_time"),
    "_get_output_dir": ("self", "trial"),
    "_load_best_model": ("self",),
    "_load_from_checkpoint": ("self", "resume_from_checkpoint", "model"),
    "_load_optimizer_and_scheduler": ("self", "checkpoint"),
    "_push_from_checkpoint": ("self", "checkpoint_folder"),
    "_run_epoch": ("self", "model", "epoch"),
    "_save_checkpoint": ("self", "model", "trial"),
    "create_model_card": ("self", "model_name", "dataset_name", "tags"),
}
"""What `checkpoints/resume.py` overrides in a trainer of either kind, with the first parameters of each method."""


def check_signatures(trainer: type, methods: Mapping[str, tuple[str, ...]]) -> None:
    """Check that every overridden method still begins with the parameters it was written for.

    Raises:
        IncompatibleVersionError: names the method, both signatures, the installed versions and the tested range.
    """
    for method, expected in methods.items():
        function = getattr(trainer, method, None)
        if function is None:
            raise changed_method(trainer, method, "it is gone")
        got = tuple(inspect.signature(function).parameters)
        if got[: len(expected)] != expected:
            raise changed_method(trainer, method, f"expected parameters {expected}, got {got}")


def check_has(trainer: object, names: Sequence[str], *, kind: str) -> None:
    """Check that a trainer that was built has every attribute that is used later; ``kind`` is what errors call it.

    Raises:
        IncompatibleVersionError: names those that are missing.
    """
    if missing := [name for name in names if not hasattr(trainer, name)]:
        raise IncompatibleVersionError(
            f"{kind} of trl {trl.__version__} (transformers {transformers.__version__}) has no attribute "
            f"{', '.join(missing)}, which Triptych uses. Tested with trl {TESTED_TRL}; install that, or open a report "
            "with this line."
        )


def changed_method(trainer: type, method: str, what: str) -> IncompatibleVersionError:
    """The error of a method that is not as it was."""
    return IncompatibleVersionError(
        f"{trainer.__name__}.{method} of trl {trl.__version__} is not the one Triptych overrides: {what}. "
        f"Tested with trl {TESTED_TRL}; install that, or open a report with this line."
    )
