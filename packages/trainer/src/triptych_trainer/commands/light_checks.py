"""What is wrong with the options of a command that samples or merges, as far as no library below Triptych is
needed to see it: `first_look` refuses it within a second, and the command itself checks the same.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from triptych_data.adapter_folder import adapter_folder
from triptych_data.model_name import check_model_name, check_revision
from triptych_data.option_parser import collected, refuse_given
from triptych_data.options import DataOptions, ModelOptions, TemplateOptions, check_pixels, prompt_settings
from triptych_data.shared_options import SharedOptions, shared_options
from triptych_data.write_whole import check_target

from triptych_trainer.commands.targets import check_kept_target, check_new_folder
from triptych_trainer.errors import UsageError
from triptych_trainer.options.default_rewards import named_rewards
from triptych_trainer.options.eval_options import EvalOptions
from triptych_trainer.options.merge_options import DTYPES, MergeOptions
from triptych_trainer.options.page_options import PAGE
from triptych_trainer.options.rollout_options import OF_VLLM, RolloutOptions
from triptych_trainer.options.tool_options import PlayOptions
from triptych_trainer.options.values import check_weights
from triptych_trainer.rewards.loading import KNOWN_REWARDS
from triptych_trainer.rewards.read import check_verdict
from triptych_trainer.rollouts.parts import rollout_parts
from triptych_trainer.trajectories.turn_options import TurnOptions

__all__ = [
    "CHECKS",
    "check_chat",
    "check_eval",
    "check_known_verdict",
    "check_merge",
    "check_num_weights",
    "check_rollout",
    "not_adapters",
    "turns_of",
]


def turns_of(options: PlayOptions) -> TurnOptions:
    """Return how rollouts of several turns are sampled.

    Raises:
        UsageError: a value that no run can use, or an option of turns without tools and without an environment.
    """
    turns = TurnOptions(history=options.history, max_turns=options.max_turns, tool_seconds=options.tool_seconds)
    has_tools = bool(options.tools or options.environment)
    turns.check(has_tools=has_tools, scale_rewards="group")
    turns.calling_turns(options.max_tool_calling_iterations)
    if not has_tools:
        refuse_given(options, ("max_tool_calling_iterations",), why="no calls are done; add --tools or --environment")
    return turns


def check_rollout(namespace: argparse.Namespace) -> None:
    """Check the options of ``triptych rollout`` and the place of what it writes; raises UsageError."""
    shared, options = shared_options(namespace), collected(RolloutOptions, namespace)
    play = _played(namespace, shared)
    check_new_folder(namespace.out)
    if shared.data.eval_data:
        raise UsageError("--eval_data: completions are sampled for the rows of --data; name the files there")
    _check_engine(options, has_tools=bool(play.tools or play.environment))
    if not options.temperature > 0:
        raise UsageError(
            f"--temperature expects a number above 0, got {options.temperature:g}: greedy completions of a prompt are "
            "all equal; `triptych eval` decodes greedily"
        )
    rewards = named_rewards(options.reward, has_environment=bool(play.environment))
    check_num_weights(len(rewards), options.reward_weights)
    check_known_verdict(rewards, options.verdict)
    if options.keep_mixed:
        files = [file for file, _ in shared.train_files]
        check_kept_target(options.keep_mixed, namespace.out, read=files)


def _played(namespace: argparse.Namespace, shared: SharedOptions) -> PlayOptions:
    """The tools and environments of a command line, after a look at its turns and at the arguments of templates."""
    assert shared.settings is not None  # refuses arguments of the chat template that cannot be read
    play = collected(PlayOptions, namespace)
    turns_of(play)
    return play


def _check_engine(options: RolloutOptions, *, has_tools: bool) -> None:
    if has_tools and options.use_vllm:
        raise UsageError(
            "--use_vllm: with --tools and --environment this command samples with transformers; leave it out, or look "
            "at the first steps of a run with --use_vllm"
        )
    if not options.use_vllm:
        refuse_given(options, OF_VLLM, why="only vLLM reads it; add --use_vllm")
    elif options.verify_model != "on":
        raise UsageError("--verify_model: the model is not compared where vLLM samples; leave it out")
    elif "vllm" not in sys.modules and find_spec("vllm") is None:
        raise UsageError("--use_vllm: vllm is not installed; pip install 'triptych-trainer[vllm]', or leave it out")


def check_num_weights(num_rewards: int, weights: Sequence[float] | None) -> None:
    """Check that there is a weight for each reward, and that the weights leave something of them; raises UsageError."""
    if weights is None:
        return
    if len(weights) != num_rewards:
        raise UsageError(
            f"--reward_weights expects one number for each of the {num_rewards} rewards, got {len(weights)}"
        )
    check_weights(weights)


def check_known_verdict(specs: Sequence[str], verdict: str | None) -> None:
    """Check ``--verdict`` where all rewards are known ones: own functions have no name before they are loaded."""
    names = [spec.partition("(")[0].strip() for spec in specs]
    if names and set(names) <= set(KNOWN_REWARDS):
        check_verdict(names, verdict)


def check_eval(namespace: argparse.Namespace) -> None:
    """Check the options of ``triptych eval`` and the places of what it writes; raises UsageError."""
    shared, options = shared_options(namespace), collected(EvalOptions, namespace)
    _played(namespace, shared)
    files = [file for file, _ in (*shared.train_files, *shared.held_out_files)]
    targets = {"--html": options.html, "--json": options.json}
    for option, target in targets.items():
        if target is not None:
            others = {other: path for other, path in targets.items() if other != option}
            check_target(Path(target), option=option, read=files, others=others)
    play = collected(PlayOptions, namespace)
    rewards = named_rewards(options.reward, has_environment=bool(play.environment))
    check_known_verdict(rewards, options.verdict)
    if options.html is None:
        refuse_given(options, PAGE, why="only the page shows it; add --html with a page to write")


def check_merge(namespace: argparse.Namespace) -> None:
    """Check what ``triptych merge`` is to merge, and the place of the model; raises UsageError."""
    options, path = collected(MergeOptions, namespace), namespace.adapters
    check_model_name(path, option="ADAPTERS")
    check_revision(path, options.model_revision)
    check_new_folder(namespace.out)
    if options.dtype not in DTYPES:
        raise UsageError(f"--dtype {options.dtype}: expected one of {', '.join(DTYPES)}")
    if Path(path).is_dir() and adapter_folder(path, option="ADAPTERS") is None:
        raise not_adapters(path)


def not_adapters(path: str) -> UsageError:
    """Return the refusal of a folder or hub id without adapters."""
    return UsageError(
        f"ADAPTERS {path}: expected a folder or hub id of adapters, found no adapter_config.json there; name the "
        "output folder of a run with --use_peft (a folder with a whole model needs no merge)"
    )


def check_chat(namespace: argparse.Namespace) -> None:
    """Check what ``triptych chat`` says of its model and of prompts; raises UsageError."""
    check_model_name(namespace.model, option="MODEL")
    check_revision(namespace.model, collected(ModelOptions, namespace).model_revision)
    prompt = collected(TemplateOptions, namespace)
    check_pixels(prompt)
    prompt_settings(DataOptions(), prompt)


def check_report(namespace: argparse.Namespace) -> None:
    """Check that the folders of ``triptych report`` are there; raises ReportError."""
    for folder in (namespace.run_dir, namespace.compare):
        if folder is not None and not Path(folder).is_dir():
            rollout_parts(Path(folder))


CHECKS: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "rollout": check_rollout,
    "eval": check_eval,
    "merge": check_merge,
    "chat": check_chat,
    "report": check_report,
}
"""The checks of each command that has some, by its name."""
