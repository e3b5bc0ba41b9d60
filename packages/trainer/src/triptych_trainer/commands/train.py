"""``train``: read and check the data, load the model, run GRPO, save what transformers loads back."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from triptych_data import Example
from triptych_data.model_tokens import ModelTokens
from triptych_data.options import QUARANTINE, data_files, image_policy, image_roots
from triptych_data.seen_headers import SeenHeaders

from triptych_trainer.checkpoints.lock import one_run_in
from triptych_trainer.checkpoints.run import data_digest
from triptych_trainer.checkpoints.start import begin_run, choose_start
from triptych_trainer.commands.outcome import outcome
from triptych_trainer.errors import UsageError
from triptych_trainer.models.families import use_own_family
from triptych_trainer.models.load import load_model, load_processor
from triptych_trainer.monitor.progress import Reporter
from triptych_trainer.monitor.run_record import write_record
from triptych_trainer.options.arguments import RunConfig, parse_run, prompt_settings, wants_demo
from triptych_trainer.options.help import print_help
from triptych_trainer.options.refusals import check_adapter_folder, check_options, check_output_folder, check_trackers
from triptych_trainer.prompts.expected import answer_checks
from triptych_trainer.prompts.read_files import read_files, usable
from triptych_trainer.rewards.read import read_rewards
from triptych_trainer.rewards.row import RowCheck
from triptych_trainer.training.train import train_model
from triptych_trainer.upstream.quiet import quiet_libraries

__all__ = ["main", "read_data", "reporter_of", "run"]


def main(argv: Sequence[str]) -> int:
    """Run ``train`` and return its exit code: 0, or 2 with one line on standard error."""
    return outcome("train", lambda: _train(argv))


def _train(argv: Sequence[str]) -> int:
    if print_help("train", argv):
        return 0
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
    use_own_family(config.run.family)
    check_trackers(config.grpo)
    check_options(config.grpo, {})
    check_adapter_folder(
        config.model.model_name_or_path, use_peft=config.model.use_peft, merge_adapter=config.run.merge_adapter
    )
    check_output_folder(Path(config.grpo.output_dir))
    with one_run_in(config.grpo, say=reporter.say):
        return _run_alone(config, reporter=reporter)


def _run_alone(config: RunConfig, *, reporter: Reporter) -> int:
    """Train in an output folder that no other run writes into."""
    output = Path(config.grpo.output_dir)
    rewards = read_rewards(config.run.reward)
    seen = SeenHeaders(policy=image_policy(config.run))
    examples, held_out = read_data(config, seen)
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
    checks = answer_checks(rewards)
    examples = usable_rows(examples, processor, config, seen, checks=checks, reporter=reporter)
    held_out = usable_rows(held_out, processor, config, seen, checks=checks, reporter=reporter)
    files, held_out_files = ([Path(file) for file in names or ()] for names in (config.run.data, config.run.eval_data))
    start = choose_start(
        config,
        data=data_digest(files, examples),
        held_out=data_digest(held_out_files, held_out),
        say=reporter.say,
    )
    model = load_model(path, config.model, trust_remote_code=trust, merge_adapter=config.run.merge_adapter)
    start = begin_run(start, model=model, rank=config.grpo.process_index, say=reporter.say)
    if config.grpo.process_index == 0:
        write_record(output, config, data=files + held_out_files, run_id=start.run.id, resumed_from=start.checkpoint)
    training = train_model(
        model,
        processor,
        examples=examples,
        held_out=held_out,
        rewards=rewards,
        config=config,
        start=start,
        reporter=reporter,
        seen=seen,
    )
    if training.stopped_at is not None:
        training.trainer.accelerator.end_training()
        return 0
    reporter.conclude(f"model: {output}   log: {output / 'trainer_state.json'}")
    if config.run.rollouts and (output / "report.html").is_file():
        reporter.conclude(f"what it said: {output / 'report.html'}")
    training.trainer.accelerator.end_training()
    return 0


def usable_rows(
    examples: Sequence[Example],
    processor: Any,
    config: RunConfig,
    seen: SeenHeaders,
    *,
    checks: Sequence[RowCheck],
    reporter: Reporter,
) -> list[Example]:
    """The rows that the model takes, so that none of the others ends the run later.

    One rank looks, unless rows may be skipped: then every rank has to leave out the same ones.

    Raises:
        DataError: a row that the model cannot take, or whose answer no completion can meet.
    """
    if config.grpo.process_index > 0 and config.run.on_bad == "stop":
        return list(examples)
    has_limit = config.run.max_prompt_tokens is not None or config.run.max_prompt_image_tokens is not None
    with reporter.stage("tokens", len(examples)) if has_limit else nullcontext() as bar:
        return usable(
            examples,
            model=ModelTokens.of(processor),
            settings=prompt_settings(config),
            options=config.run,
            checks=checks,
            seen=seen,
            quarantine=quarantine_of(config),
            progress=int if bar is None else bar.move_to,
        )


def read_data(config: RunConfig, seen: SeenHeaders | None = None) -> tuple[list[Example], list[Example]]:
    """Read and check the training rows and the held-out rows of a run; ``seen`` remembers what headers say."""
    run = config.run
    quarantine = quarantine_of(config)
    run.data = data_files(run)
    roots, held_out_roots = image_roots(run)
    return (
        read_files(run.data, roots, run, seen=seen, quarantine=quarantine),
        read_files(run.eval_data or (), held_out_roots, run, seen=seen, quarantine=quarantine),
    )


def quarantine_of(config: RunConfig) -> Path | None:
    """Where the first rank lists the rows that are left out."""
    return Path(config.grpo.output_dir) / QUARANTINE if config.grpo.process_index == 0 else None
