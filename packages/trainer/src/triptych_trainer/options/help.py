"""The help of every command, printed without the imports that the command needs to run."""

import importlib
from collections.abc import Sequence

from triptych_data.option_parser import underscored

__all__ = ["PARSERS", "print_help"]

PARSERS = {
    "train": "triptych_trainer.options.train_help",
    "sft": "triptych_trainer.options.sft_options",
    "check": "triptych_trainer.options.check_options",
    "preview": "triptych_trainer.options.preview_options",
    "plan": "triptych_trainer.options.plan_options",
    "eval": "triptych_trainer.options.eval_options",
    "rollout": "triptych_trainer.options.rollout_options",
    "score": "triptych_trainer.options.score_options",
    "chat": "triptych_trainer.options.chat_options",
    "serve": "triptych_trainer.options.serve_options",
    "report": "triptych_trainer.options.report_options",
    "merge": "triptych_trainer.options.merge_options",
    "completion": "triptych_trainer.commands.completion",
    "env": "triptych_trainer.commands.env",
}
"""For each command the module whose ``parser`` prints its help."""


def print_help(command: str, argv: Sequence[str]) -> bool:
    """Print a command's help where its words ask for it; return whether they do."""
    words = underscored(argv)
    if "--help_all" in words and command in ("train", "plan"):
        from triptych_trainer.options.arguments import run_parser  # brings TRL, whose options these are

        run_parser().print_help()
        return True
    if "--help_all" in words and command == "sft":
        from triptych_trainer.options.sft_arguments import sft_parser

        sft_parser().print_help()
        return True
    if "-h" in words or "--help" in words:
        importlib.import_module(PARSERS[command]).parser().print_help()
        return True
    return False
