"""GRPO on multi-image prompts: every image in its place and paid for once."""

from typing import Any

__all__ = ["MultiImageGRPOTrainer", "PromptPreparer", "load_reward"]

_HOMES = {"MultiImageGRPOTrainer": "grpo.trl.trainer", "PromptPreparer": "prompts.prepare", "load_reward": "rewards"}


def __getattr__(name: str) -> Any:
    # Importing TRL takes seconds, and most submodules do without it: load a name's home when it is asked for.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from triptych_trainer.upstream.versions import import_checked

    return getattr(import_checked(f"triptych_trainer.{_HOMES[name]}"), name)
