"""``train``: read and check the data, load the model, run GRPO, save what transformers loads back."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console
from triptych_data import Examples
from triptych_data.checked import RowCheck
from triptych_data.options import QUARANTINE, check_reading, data_files, image_policy, image_roots
from triptych_data.progress import Reporter
from triptych_data.seen_headers import SeenHeaders

from triptych_trainer.checkpoints.lock import one_run_in
from triptych_trainer.commands.begun import begun, processor_of
from triptych_trainer.commands.launch import launched
from triptych_trainer.commands.loaded_rewards import named_weights
from triptych_trainer.commands.model_options import check_model_options
from triptych_trainer.commands.outcome import outcome
from triptych_trainer.commands.read_files import read_files
from triptych_trainer.errors import UsageError
from triptych_trainer.models.families import use_own_family
from triptych_trainer.options.arguments import RunConfig, TrainingConfig, parse_run, prompt_settings
from triptych_trainer.options.default_rewards import named_rewards
from triptych_trainer.options.help import print_help
from triptych_trainer.options.own_code import read_environment, read_tools
from triptych_trainer.options.refusals import (
    check_head_dtype,
    check_options,
    check_trackers,
)
from triptych_trainer.options.run_folders import check_output_folder
from triptych_trainer.options.vllm_refusals import check_rollout_lag
from triptych_trainer.options.words import check_model_and_data, wants_demo
from triptych_trainer.prompts.row_check import row_check_of
from triptych_trainer.rewards.read import chosen_verdict, read_rewards
from triptych_trainer.training.train import train_model, turn_options
from triptych_trainer.upstream.quiet import quiet_libraries

__all__ = ["main", "read_data", "reporter_of", "run"]

_SHOWN_FROM = 1_000
"""Rows from which on the first look at them takes long enough to be shown."""


def main(argv: Sequence[str]) -> int:
    """Run ``train`` and return its exit code: 0, or 2 with one line on standard error."""
    return outcome("train", lambda: _train(argv))


def _train(argv: Sequence[str]) -> int:
    if print_help("train", argv):
        return 0
    if (code := launched("train", argv)) is not None:
        return code
    if wants_demo(argv):
        from triptych_trainer.commands.demo import run_demo

        return run_demo(argv)
    config = parse_run(argv)
    return run(config, reporter=reporter_of(config))


def reporter_of(config: TrainingConfig) -> Reporter:
    """Return the reporter of this rank; only that of the first rank prints."""
    if config.trl.process_index > 0:
        return Reporter(quiet=True, console=Console(quiet=True))
    return Reporter(quiet=config.run.quiet)


def run(config: RunConfig, *, reporter: Reporter) -> int:
    """Train a model folder or hub id on data files."""
    check_model_and_data(config.model.model_name_or_path, config.run.data, command="train")
    quiet_libraries()
    use_own_family(config.run.family)
    check_trackers(config.grpo)
    check_run(config)
    check_output_folder(Path(config.grpo.output_dir))
    with one_run_in(config.grpo, say=reporter.say):
        return _run_alone(config, reporter=reporter)


def check_run(config: RunConfig, *, runs_here: bool = True) -> None:
    """Check the options of a run, and what they name, before data and model are read; `plan` calls it as well.

    Raises:
        UsageError: names the option, why it cannot be used, and what to set instead.
    """
    for option, given in (("--demo look", config.run.demo == "look"), ("--blank_tool", config.run.blank_tool)):
        if given:
            raise UsageError(f"{option}: a demo brings its own model and data; leave it out, or give neither")
    check_options(config.grpo, runs_here=runs_here)
    has_turns = bool(read_tools(config.run.tools) or read_environment(config.run.environment))
    check_rollout_lag(config.run.rollout_lag, config.grpo, has_turns=has_turns)
    turn_options(config.run).check(has_tools=has_turns, scale_rewards=config.grpo.scale_rewards)
    check_model_options(config, runs_here=runs_here)
    check_head_dtype(config.grpo, str(config.model.model_name_or_path), revision=config.model.model_revision)


def _run_alone(config: RunConfig, *, reporter: Reporter) -> int:
    """Train in an output folder that no other run writes into."""
    output = Path(config.grpo.output_dir)
    config.run.reward = named_rewards(config.run.reward, has_environment=bool(config.run.environment))
    rewards = read_rewards(config.run.reward, has_environment=bool(config.run.environment))
    chosen_verdict(rewards, config.run.verdict)
    named_weights(rewards, config.grpo.reward_weights)
    seen = SeenHeaders(policy=image_policy(config.run))
    path, trust = config.model.model_name_or_path, config.grpo.trust_remote_code
    processor = processor_of(config, path)
    environment = read_environment(config.run.environment)
    row_check = row_check_of(
        processor,
        prompt_settings(config),
        rewards=dict(zip(config.run.reward, rewards, strict=True)),
        environments=tuple(environment) if isinstance(environment, dict) else (),
    )
    examples, held_out = read_data(
        config, seen, row_check=row_check, reporter=reporter, needs_prompt=not config.run.environment
    )
    num_images, num_held_out = examples.checked.num_images, 0 if held_out is None else len(held_out)
    reporter.say(f"{len(examples)} prompts with {num_images} images; {num_held_out} held out")
    start, model = begun(
        config,
        path,
        examples=examples,
        held_out=held_out,
        seen=seen,
        processor=processor,
        trust_remote_code=trust,
        reporter=reporter,
    )
    training = train_model(
        model,
        processor,
        examples=examples,
        held_out=held_out or (),
        rewards=rewards,
        config=config,
        start=start,
        reporter=reporter,
        seen=seen,
        tools=read_tools(config.run.tools),
        environment=environment,
    )
    if training.stopped_at is not None:
        training.trainer.accelerator.end_training()
        return 0
    reporter.conclude(f"model: {output}   log: {output / 'trainer_state.json'}")
    if config.run.rollouts and (output / "report.html").is_file():
        reporter.conclude(f"what it said: {output / 'report.html'}")
    training.trainer.accelerator.end_training()
    return 0


def read_data(
    config: TrainingConfig,
    seen: SeenHeaders,
    *,
    row_check: RowCheck | None = None,
    reporter: Reporter | None = None,
    needs_prompt: bool = True,
    sft: bool = False,
    writes: bool = True,
) -> tuple[Examples, Examples | None]:
    """Read and check the training rows and the held-out rows of a run; ``seen`` remembers what headers say.

    Without ``needs_prompt`` an environment gives the tasks of rows that have none; with ``sft`` rows are conversations.
    Only what ``writes`` lists refused rows in the output folder.

    Raises:
        UsageError: a file or a folder is missing, or nothing would read an option.
        DataError: a row that cannot be used, or that ``row_check`` refuses.
    """
    run = config.run
    run.data = data_files(run)
    check_reading(run)
    roots, held_out_roots = image_roots(run)

    def read(files: Sequence[str], folders: Sequence[Path | None]) -> Examples:
        with nullcontext() if reporter is None else reporter.stage("rows", None) as bar:

            def progress(done: int, total: int) -> None:
                if bar is not None and total >= _SHOWN_FROM:
                    bar.move_to(done, total=total)

            return read_files(
                files,
                folders,
                run,
                given=config.options,
                seen=seen,
                row_check=row_check,
                quarantine=quarantine_of(config) if writes else None,
                rank=config.trl.process_index,
                progress=progress,
                threads=run.image_threads,
                needs_prompt=needs_prompt,
                sft=sft,
            )

    examples = read(run.data, roots)
    return examples, read(run.eval_data, held_out_roots) if run.eval_data else None


def quarantine_of(config: TrainingConfig) -> Path | None:
    """Return where the first rank lists the rows that are left out."""
    return Path(config.trl.output_dir) / QUARANTINE if config.trl.process_index == 0 else None
