"""``triptych score``: other rewards for completions that were sampled before, by a run or by ``triptych rollout``."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields

import yaml
from triptych_data.option_parser import checked, collected, refuse_given
from triptych_data.options import DataOptions, check_reading, data_files

from triptych_trainer.commands.given_options import given_options
from triptych_trainer.commands.light_checks import check_known_verdict, check_num_weights
from triptych_trainer.commands.loaded_rewards import named_weights, reward_functions
from triptych_trainer.commands.outcome import outcome
from triptych_trainer.commands.targets import check_kept_target, check_new_folder
from triptych_trainer.errors import UsageError
from triptych_trainer.options.page_options import PAGE
from triptych_trainer.options.score_options import ScoreOptions, parser
from triptych_trainer.rewards.read import chosen_verdict
from triptych_trainer.rollouts.parts import rollout_parts
from triptych_trainer.upstream.versions import import_checked

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``triptych score``; return 0, or 2 after one line that says what is wrong."""
    words = list(sys.argv[1:] if argv is None else argv)
    return outcome("triptych score", lambda: _run(parser().parse_args(words), words))


def _run(namespace: argparse.Namespace, words: Sequence[str]) -> int:
    options, out = collected(ScoreOptions, namespace), namespace.out
    rollout_parts(namespace.run_dir)
    if out is None:
        refuse_given(options, PAGE, why="only the page shows it; add -o with a folder for the page")
    else:
        check_new_folder(out)
    check_num_weights(len(options.reward), options.reward_weights)
    check_known_verdict(options.reward, options.verdict)
    data = _data_options(namespace)
    if options.keep_mixed:
        check_kept_target(options.keep_mixed, out, read=data.data or ())
    rewards = reward_functions(options.reward)
    chosen_verdict(rewards, options.verdict)
    weights = named_weights(rewards, options.reward_weights)
    says_how = bool(given_options(collected(DataOptions, namespace)))
    heavy = import_checked("triptych_trainer.commands.score_again")  # after what is wrong was said: it takes seconds
    heavy.score_again(
        namespace.run_dir,
        out,
        options,
        data,
        rewards=rewards,
        weights=weights,
        must_read=says_how,
        words=words,
    )
    return 0


def _data_options(namespace: argparse.Namespace) -> DataOptions:
    """What the command line says of the data, or else what the folder's ``config.yaml`` says."""
    given = collected(DataOptions, namespace)
    if given.data or given.eval_data:
        given.data = data_files(given)
        check_reading(given)
        return given
    try:
        said = yaml.safe_load((namespace.run_dir / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        said = None
    names = {option.name for option in fields(DataOptions)}
    found = {name: value for name, value in said.items() if name in names} if isinstance(said, dict) else {}
    own = given_options(given)
    options = checked(DataOptions(**{**found, **own}))
    if own:
        if not options.data and not options.eval_data:
            raise UsageError(
                f"--{next(iter(own))} says how rows are read, and {namespace.run_dir / 'config.yaml'} names no data; "
                "name the files with --data, or leave it out"
            )
        check_reading(options)
    return options
