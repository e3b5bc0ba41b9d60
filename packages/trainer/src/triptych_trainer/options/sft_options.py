"""What Triptych adds to TRL's options of `triptych sft`, and the help of the command without importing TRL."""

from __future__ import annotations

from dataclasses import dataclass, field

from triptych_data.option_parser import OptionParser

from triptych_trainer.options.common_options import CommonArguments
from triptych_trainer.options.training_help import TrlOptions, training_help

__all__ = ["TRL_OPTIONS", "SftArguments", "parser"]


@dataclass(kw_only=True)
class SftArguments(CommonArguments):
    """Contains what Triptych adds to TRL's options of an SFT run."""

    chat_template_kwargs: str | None = field(
        default=None, metadata={"metavar": "JSON", "help": "further arguments of the chat template, as a JSON object"}
    )
    tools: list[str] = field(
        default_factory=list,
        metadata={"metavar": "NAME", "help": "list functions in every prompt as train does, as file.py:function"},
    )


TRL_OPTIONS: TrlOptions = {
    "output_dir": ("DIR", "folder of the model, its checkpoints and log", "trainer_output"),
    "per_device_train_batch_size": ("N", "conversations of a micro-batch", 8),
    "gradient_accumulation_steps": ("N", "micro-batches of a step", 1),
    "packing": ("", "lay the rows of a micro-batch behind one another, without pads", False),
    "max_length": ("N", "refuse conversations of more tokens, images included; none is cut", None),
    "learning_rate": ("X", "its first value", 2e-5),
    "num_train_epochs": ("X", "how often each row is trained on, unless --max_steps is given", 3.0),
    "max_steps": ("N", "ends the run", -1),
    "use_peft": ("", "train LoRA adapters instead of all weights", False),
    "resume_from_checkpoint": ("DIR", "go on from a checkpoint; `latest` is the newest of --output_dir", None),
}
"""Options of TRL that nearly every run sets: metavar, text, and the default, which a test checks."""


def parser() -> OptionParser:
    """Return a parser that prints the help; a run is parsed with all of TRL's options."""
    return training_help(
        "triptych sft",
        SftArguments,
        trl_options=TRL_OPTIONS,
        title="the model and the run",
        description="Train on the turns of the assistant in conversations with several images.",
    )
