"""The places where `sft` hooks into TRL's and transformers' trainers, checked when a trainer is built."""

from __future__ import annotations

from trl import SFTTrainer

from triptych_trainer.upstream.trl_trainers import CHECKPOINT_METHODS, check_has, check_signatures

__all__ = ["ATTRIBUTES", "METHODS", "check_attributes", "check_methods"]

METHODS: dict[str, tuple[str, ...]] = {
    # The step (sft/trl/trainer.py)
    "compute_loss": ("self", "model", "inputs", "return_outputs", "num_items_in_batch"),
    "create_optimizer": ("self", "model"),
    "floating_point_ops": ("self", "inputs"),
    "get_train_dataloader": ("self",),
    "_set_signature_columns_if_needed": ("self",),
    "_get_train_sampler": ("self", "train_dataset"),
    **CHECKPOINT_METHODS,
}
"""The first parameters of every method of TRL's trainer that is overridden."""

ATTRIBUTES = (
    *("_metrics", "_signature_columns", "_total_train_tokens", "accelerator", "args", "aux_loss_enabled"),
    *("callback_handler", "is_deepspeed_enabled", "is_fsdp_enabled", "model_accepts_loss_kwargs", "model_wrapped"),
    *("processing_class", "router_aux_loss_coef", "state"),
)
"""What is read from or written to a trainer after it is built."""


def check_methods(trainer: type = SFTTrainer) -> None:
    """Check that every overridden method still begins with the parameters it was written for.

    Raises:
        IncompatibleVersionError: names the method, both signatures, the installed versions and the tested range.
    """
    check_signatures(trainer, METHODS)


def check_attributes(trainer: SFTTrainer) -> None:
    """Check that a trainer that was built has every attribute that is used later.

    Raises:
        IncompatibleVersionError: names those that are missing.
    """
    check_has(trainer, ATTRIBUTES, kind="SFTTrainer")
