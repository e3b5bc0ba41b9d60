"""The two commands: ``train``, and ``triptych`` with its subcommands."""

import logging
import sys
import warnings
from collections.abc import Callable, Sequence

from triptych_data.option_parser import nearest

from triptych_trainer.commands.first_look import RUNS, first_look, label
from triptych_trainer.commands.launch import check_launch_words, launched
from triptych_trainer.commands.outcome import outcome
from triptych_trainer.errors import IncompatibleVersionError
from triptych_trainer.monitor.versions import installed_versions
from triptych_trainer.options.help import print_help
from triptych_trainer.upstream.versions import check_versions, import_checked

__all__ = ["main", "train"]

COMMANDS = {
    "train": ("triptych_trainer.commands.train", "train on a dataset, or the built-in demo without arguments"),
    "sft": (
        "triptych_trainer.commands.sft",
        "train on the turns of the assistant in conversations",
    ),
    "check": ("triptych_trainer.commands.check", "check dataset files before a run"),
    "preview": ("triptych_trainer.commands.preview", "show a dataset's prompts as a model gets them, as one page"),
    "plan": ("triptych_trainer.commands.plan", "forecast memory, steps and hours of a run before it begins"),
    "eval": ("triptych_trainer.commands.evaluate", "score a model on held-out data, by slices, with intervals"),
    "rollout": ("triptych_trainer.commands.rollout", "sample completions for rows and score them, before a run"),
    "score": ("triptych_trainer.commands.score", "score by other rewards what was sampled before, without a model"),
    "chat": ("triptych_trainer.commands.chat", "ask a model about several images, on a page of this machine"),
    "serve": ("triptych_trainer.commands.serve", "serve a model with vLLM for the rollouts of a run"),
    "report": ("triptych_trainer.commands.report", "rebuild the page of a run's rollouts"),
    "merge": ("triptych_trainer.commands.merge", "merge adapters into their model, and save it as one"),
    "completion": ("triptych_trainer.commands.completion", "print what a shell reads to complete these commands"),
    "env": ("triptych_trainer.commands.env", "print the versions of everything, for a bug report"),
}


def train() -> int:
    """Run ``train``: without a model or data the built-in demo, else GRPO on the given files."""
    return _run("triptych_trainer.commands.train", sys.argv[1:], name="train")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``triptych COMMAND ...``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: triptych COMMAND ...\n")
        print("\n".join(f"  {name:<10} {what}" for name, (_, what) in COMMANDS.items()))
        print(
            "\n`triptych COMMAND --help` lists the options of a command, `triptych --version` says which one this is."
        )
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"triptych {installed_versions()['triptych-trainer']}")
        return 0
    if arguments[0] not in COMMANDS:
        hint = nearest(arguments[0], tuple(COMMANDS))
        print(
            f"triptych: error: there is no command {arguments[0]!r}{hint}; there are: {', '.join(COMMANDS)}",
            file=sys.stderr,
        )
        return 2
    return _run(COMMANDS[arguments[0]][0], arguments[1:], name=arguments[0])


def _run(module: str, arguments: Sequence[str], *, name: str) -> int:
    # TRL uses names that transformers has renamed; both are pinned, and a user can do nothing about it.
    warnings.filterwarnings("ignore", message=".*deprecated and will be removed in v6", category=FutureWarning)
    # Where bitsandbytes is installed, PEFT imports it, and it may warn of a CPU kernel for 4-bit weights.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    if print_help(name, arguments):
        return 0
    try:
        check_versions()
        if refused := first_look(name, arguments):
            return refused
        if name in RUNS and check_launch_words(arguments) is not None:  # each process makes the imports of the command
            return outcome(label(name), lambda: launched(name, arguments) or 0)
        command: Callable[[Sequence[str]], int] = import_checked(module).main
        return command(arguments)
    except IncompatibleVersionError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
