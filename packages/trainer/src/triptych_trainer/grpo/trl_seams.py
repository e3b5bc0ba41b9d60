"""The places where Triptych hooks into TRL: checked by signature, so that an upstream change is one clear error."""

import inspect

import trl
from trl import GRPOTrainer

from triptych_trainer.errors import SeamError

__all__ = ["check_seams"]

TESTED_TRL = "1.16.x"
SEAMS: dict[str, tuple[str, ...]] = {
    "_prepare_inputs": ("self", "generation_batch"),
    "_tokenize_prompts": ("self", "prompts"),
    "_generate_single_turn": (
        "self",
        "prompt_ids",
        "images",
        "multimodal_fields",
        "num_generations",
        "has_tool_images",
    ),
    "_generate_and_score_completions": ("self", "inputs"),
    "_calculate_rewards": ("self", "inputs", "prompts", "completions", "completion_ids_list"),
    "_compute_loss": ("self", "model", "inputs"),
    "_get_output_dir": ("self", "trial"),
    "_get_train_sampler": ("self", "dataset"),
    "_load_best_model": ("self",),
    "_load_from_checkpoint": ("self", "resume_from_checkpoint", "model"),
    "_load_optimizer_and_scheduler": ("self", "checkpoint"),
    "_push_from_checkpoint": ("self", "checkpoint_folder"),
    "_save_checkpoint": ("self", "model", "trial"),
    "_get_per_token_logps_and_entropies": (
        *("self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size"),
        *("compute_entropy", "compute_aux_loss"),
    ),
}


def check_seams(trainer: type = GRPOTrainer) -> None:
    """Check that every overridden method still begins with the parameters it was written for.

    Raises:
        SeamError: names the method, both signatures, the installed version and the tested range.
    """
    for method, expected in SEAMS.items():
        function = getattr(trainer, method, None)
        if function is None:
            raise SeamError(_message(method, "it is gone"))
        got = tuple(inspect.signature(function).parameters)
        if got[: len(expected)] != expected:
            raise SeamError(_message(method, f"expected parameters {expected}, got {got}"))


def _message(method: str, what: str) -> str:
    return (
        f"GRPOTrainer.{method} of trl {trl.__version__} is not the one Triptych overrides: {what}. "
        f"Tested with trl {TESTED_TRL}; install that, or open a report with this line."
    )
