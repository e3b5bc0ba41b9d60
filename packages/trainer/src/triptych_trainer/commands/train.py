"""``train``: read and check the data, load the model, run GRPO, save what transformers loads back."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers.utils import logging as transformers_logging
from triptych_data import Example, read_examples

from triptych_trainer.commands.outcome import outcome
from triptych_trainer.errors import UsageError
from triptych_trainer.forecast.rows import Rows
from triptych_trainer.grpo.train import train_model
from triptych_trainer.models.load import load_model, load_processor
from triptych_trainer.monitor.progress import Reporter
from triptych_trainer.monitor.run_record import write_record
from triptych_trainer.options.arguments import RunConfig, image_policy, parse_run, prompt_settings, wants_demo
from triptych_trainer.options.refusals import check_trackers
from triptych_trainer.rewards import guarded, load_reward
from triptych_trainer.rewards.reward_model import PREFIX, load_reward_model

__all__ = ["main", "quiet_libraries", "read_data", "read_rewards", "reporter_of", "run"]


def main(argv: Sequence[str]) -> int:
    """Run ``train`` and return its exit code: 0, or 2 with one line on standard error."""
    return outcome("train", lambda: _train(argv))


def _train(argv: Sequence[str]) -> int:
    if wants_demo(argv):
        from triptych_trainer.commands.demo import run_demo

        return run_demo(argv)
    config = parse_run(argv)
    return run(config, reporter=reporter_of(config))


def reporter_of(config: RunConfig) -> Reporter:
    """What a rank says: the first one speaks for all."""
    if config.grpo.process_index > 0:
        return Reporter(quiet=True, console=Console(quiet=True))
    return Reporter(quiet=config.run.quiet)


def run(config: RunConfig, *, reporter: Reporter) -> int:
    """Train a model folder or hub id on data files."""
    if config.model.model_name_or_path is None or not config.run.data:
        missing = "--model_name_or_path" if config.run.data else "--data"
        raise UsageError(f"{missing} is missing: give a model and data, or neither for the built-in demo")
    quiet_libraries()
    check_trackers(config.grpo)
    output = Path(config.grpo.output_dir)
    rewards = read_rewards(config.run.reward)
    examples = read_data(config.run.data, config)
    held_out = read_data(config.run.eval_data or [], config)
    images = sum(len(example.images) for example in examples)
    reporter.say(f"{len(examples)} prompts with {images} images; {len(held_out)} held out")
    path, trust = config.model.model_name_or_path, config.grpo.trust_remote_code
    processor = load_processor(
        path,
        revision=config.model.model_revision,
        trust_remote_code=trust,
        min_pixels=config.run.min_pixels,
        max_pixels=config.run.max_pixels,
    )
    if config.grpo.process_index == 0:
        check_prompt_limits([*examples, *held_out], processor, config, reporter=reporter)
    model = load_model(path, config.model, trust_remote_code=trust)
    if config.grpo.process_index == 0:
        write_record(output, config, data=[Path(file) for file in (*config.run.data, *(config.run.eval_data or ()))])
    training = train_model(
        model, processor, examples=examples, held_out=held_out, rewards=rewards, config=config, reporter=reporter
    )
    if training.stopped_at is not None:
        training.trainer.accelerator.end_training()
        return 0
    reporter.conclude(f"model: {output}   log: {output / 'trainer_state.json'}")
    if config.run.rollouts:
        reporter.conclude(f"what it said: {output / 'report.html'}")
    training.trainer.accelerator.end_training()
    return 0


def check_prompt_limits(examples: Sequence[Example], processor: Any, config: RunConfig, *, reporter: Reporter) -> None:
    """Count the tokens of every prompt where the run limits them, so that none ends it later; nothing without a limit.

    Raises:
        DataError: the first row that does not fit.
    """
    if config.run.max_prompt_tokens is None and config.run.max_prompt_image_tokens is None:
        return
    with reporter.stage("tokens", len(examples)) as bar:
        Rows(processor, prompt_settings(config)).count(examples, progress=bar.move_to)


def read_rewards(specs: Sequence[str]) -> list[Callable[..., Any]]:
    """Load the rewards that ``--reward`` names, wrapped so that a failure names function, sample and completion."""
    try:
        return [load_reward_model(spec) if spec.startswith(PREFIX) else guarded(load_reward(spec)) for spec in specs]
    except ValueError as error:
        raise UsageError(f"--reward: {error}") from error


def read_data(files: Sequence[str], config: RunConfig) -> list[Example]:
    """Read and check data files; ``--image_root`` holds for all of them or one for each."""
    roots: list[str | None] = list(config.run.image_root or []) or [None]
    if len(roots) not in (1, len(config.run.data or ())):
        raise UsageError(
            f"--image_root expects one folder, or one for each of the {len(config.run.data or ())} --data files; "
            f"got {len(roots)}"
        )
    roots = roots * len(files) if len(roots) == 1 else roots
    for file in files:
        if not Path(file).exists() and "://" not in file:
            raise UsageError(f"--data {file}: no such file (looked from {Path.cwd()})")
    return [
        example
        for file, root in zip(files, roots, strict=False)
        for example in read_examples(
            file, image_root=root, format=config.run.data_format, policy=image_policy(config.run)
        )
    ]


def quiet_libraries() -> None:
    """Leave the terminal to this run's own lines: warnings of the libraries stay, their progress bars go."""
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    # Where DeepSpeed is installed, others import it, and it warns that it found no GPU: on a CPU that is no news.
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)
