"""``train --help``: Triptych's own options and the most used ones of TRL, without importing TRL."""

from __future__ import annotations

from triptych_data.option_parser import OptionParser

from triptych_trainer.options.run_options import RunArguments
from triptych_trainer.options.training_help import TrlOptions, training_help

__all__ = ["TRL_OPTIONS", "parser"]

TRL_OPTIONS: TrlOptions = {
    "output_dir": ("DIR", "folder of the model, its checkpoints, log and report", "trainer_output"),
    "num_generations": ("N", "completions per prompt", 8),
    "per_device_train_batch_size": ("N", "completions of a micro-batch", 8),
    "max_completion_length": ("N", "most tokens of a completion", 512),
    "learning_rate": ("X", "its first value", 1e-6),
    "max_steps": ("N", "ends the run; otherwise --num_train_epochs does", -1),
    "use_peft": ("", "train LoRA adapters instead of all weights", False),
    "use_vllm": ("", "sample with vLLM", False),
    "resume_from_checkpoint": ("DIR", "go on from a checkpoint; `latest` is the newest of --output_dir", None),
}
"""Options of TRL that nearly every run sets: metavar, text, and TRL's own default, which a test checks."""

RARE = (
    "group_sharing",
    "mismatch_kl_warn",
    "mismatch_kl_limit",
    "rollout_lag",
    "rollout_seconds",
    "vllm_weight_transfer",
    "max_turns",
    "history",
    "advantage",
    "step_advantage_weight",
    "step_gamma",
    "tool_seconds",
    "mask_over_turn",
    "shared_attention",
    "placement",
    "blank_tool",
    "memory_gib",
    "warn_after_steps",
)
"""Options of GRPO that few runs set; only ``--help_all`` shows them."""


def parser() -> OptionParser:
    """Return a parser that prints the help; a run is parsed with all of TRL's options."""
    return training_help(
        "train",
        RunArguments,
        trl_options=TRL_OPTIONS,
        title="Triptych's own",
        usage="   (without any of them: the built-in demo)",
        rare=RARE,
    )
