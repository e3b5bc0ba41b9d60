"""What ``--lr_scheduler_kwargs`` may say, asked of the schedule itself before anything is loaded."""

from typing import Any

import torch
from transformers import get_scheduler

from triptych_trainer.errors import UsageError

__all__ = ["check_schedule"]

_STEPS = 100


def check_schedule(args: Any) -> None:
    """Make the schedule of the learning rate of a run for an optimizer of one number.

    Raises:
        UsageError: the schedule does not take an entry of ``--lr_scheduler_kwargs``, or needs one that is not there.
    """
    given = args.lr_scheduler_kwargs or {}
    kind = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    try:
        get_scheduler(
            kind,
            optimizer=optimizer,
            num_warmup_steps=args.get_warmup_steps(_STEPS),
            num_training_steps=_STEPS,
            scheduler_specific_kwargs=dict(given),
        )
    except (TypeError, ValueError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        remedy = "correct or leave out its entries" if given else "give what it needs, or another --lr_scheduler_type"
        raise UsageError(f"--lr_scheduler_type {kind} with --lr_scheduler_kwargs {given}: {said}; {remedy}") from error
