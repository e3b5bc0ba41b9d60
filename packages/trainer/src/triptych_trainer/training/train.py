"""One GRPO training from model and examples to a saved model, its log and its report."""

import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback, TrainingArguments
from triptych_data import Example, ImageLoader
from triptych_data.options import QUARANTINE
from triptych_data.progress import Reporter
from triptych_data.seen_headers import SeenHeaders

from triptych_trainer.checkpoints.result import push_result, save_result
from triptych_trainer.checkpoints.resume import ResumableTrainer
from triptych_trainer.checkpoints.signals import StopOnRequest, sigterm_as_request
from triptych_trainer.checkpoints.start import Start
from triptych_trainer.errors import refusing_values
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
from triptych_trainer.models.adapters import adapter_config
from triptych_trainer.models.families import family_of
from triptych_trainer.models.load import freeze_vision_modules
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.monitor.pace import closing_table
from triptych_trainer.monitor.step_progress import StepProgress
from triptych_trainer.monitor.tracker_guard import guard_trackers
from triptych_trainer.options.arguments import RunArguments, RunConfig, TrainingConfig, image_policy, prompt_settings
from triptych_trainer.prompts.bad_rows import BadRows
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.training.fresh_report import FreshReport
from triptych_trainer.training.memory import memory_watches
from triptych_trainer.training.recording import rollout_writer, tolerant
from triptych_trainer.trajectories.turn_options import TurnOptions

__all__ = ["Training", "train_model"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """Contains a finished training, by GRPO or by SFT: the trainer with its model, and its logs."""

    trainer: ResumableTrainer
    logged: list[dict[str, float]]
    stopped_at: int | None = None
    """The step after which SIGTERM ended it early; None for one that ran to its end."""


def train_model(
    model: torch.nn.Module,
    processor: Any,
    *,
    examples: Sequence[Example],
    held_out: Sequence[Example],
    rewards: Sequence[Callable[..., Any]],
    config: RunConfig,
    start: Start,
    reporter: Reporter,
    seen: SeenHeaders | None = None,
    stage: str = "GRPO",
    tools: Sequence[Callable[..., Any]] = (),
    environment: Callable[[], Any] | Mapping[str, Callable[[], Any]] | None = None,
) -> Training:
    """Run GRPO and save the final model, the processor and the trainer's state into the output folder.

    The report is built after the model is saved, and uploaded with it.
    """
    if config.run.freeze_vision_modules:
        frozen = freeze_vision_modules(model)
        reporter.say(f"{frozen / 1e6:.1f} M parameters outside the language model are frozen")
    config.grpo.disable_tqdm = True
    pages = [FreshReport(Path(config.grpo.output_dir))] if config.run.rollouts else []
    watches = memory_watches(
        model,
        processor,
        examples=examples,
        config=config,
        say=reporter.say,
        seen=seen,
        has_turns=bool(tools or environment),
    )
    keep_token_out_of_files(config.grpo)
    with image_loader(config, seen=seen) as loader, sigterm_as_request() as request:
        with reporter.stage(stage, config.grpo.max_steps if config.grpo.max_steps > 0 else None) as bar:
            progress = StepProgress(bar)
            trainer = build_trainer(
                model,
                preparer_of(model, processor, loader=loader, config=config),
                examples=examples,
                held_out=held_out,
                rewards=rewards,
                config=config,
                callbacks=[progress, StopOnRequest(request), *watches, *pages],
                bad_rows=bad_rows_of(config, num_rows=len(examples), say=reporter.say),
                tools=tools,
                environment=environment,
                say=reporter.say,
            )
            run_trainer(trainer, progress=progress, start=start, seen=loader.seen)
        training = Training(trainer=trainer, logged=progress.logged, stopped_at=request.stopped_at)
        conclude(training, pages=pages, start=start, stage=stage, reporter=reporter)
    if training.stopped_at is None and progress.logged and not reporter.quiet:
        title = f"{stage}, {trainer.state.global_step} steps"
        whole = progress.stopwatch.whole()
        reporter.console.print(closing_table(progress.logged, whole, title=title, held_out=progress.held_out))
    return training


@contextmanager
def image_loader(config: TrainingConfig, *, seen: SeenHeaders | None) -> Iterator[ImageLoader]:
    """Open the loader of a run's images, which is closed at the end."""
    loader = ImageLoader(
        threads=config.run.image_threads,
        memory_bytes=max(1, int(config.run.image_cache_gb * 2**30)),
        policy=image_policy(config.run),
        seen=seen,
    )
    try:
        yield loader
    finally:
        loader.close()
        gc.collect()


def preparer_of(model: torch.nn.Module, processor: Any, *, loader: ImageLoader, config: RunConfig) -> PromptPreparer:
    """Return what turns the rows of a run into token ids, spans and image inputs."""
    return PromptPreparer(
        processor,
        loader=loader,
        family=family_of(unwrap(model)),
        settings=prompt_settings(config),
        keep=2 * max(config.grpo.generation_batch_size, config.grpo.per_device_eval_batch_size),
    )


def run_trainer(trainer: ResumableTrainer, *, progress: StepProgress, start: Start, seen: SeenHeaders) -> None:
    """Train, from the checkpoint that the run starts at."""
    trainer.run = start.run.to_json()
    trainer.seen = seen
    guard_trackers(trainer)
    progress.num_images_trained = lambda: trainer.num_images_trained
    trainer.remove_callback(PrinterCallback)  # the stage shows what it would print
    trainer.train(resume_from_checkpoint=str(start.checkpoint) if start.checkpoint else None)


def conclude(training: Training, *, pages: Sequence[FreshReport], start: Start, stage: str, reporter: Reporter) -> None:
    """Say how a training ended, and save the result of one that came to its end."""
    trainer = training.trainer
    if training.stopped_at is not None:
        reporter.conclude(
            f"{stage}: stopped by SIGTERM after step {training.stopped_at}, which is saved; "
            "go on with --resume_from_checkpoint latest"
        )
        return
    if trainer.nothing_left:
        reporter.conclude(
            f"{stage}: nothing is left to do, {start.checkpoint} is after step {trainer.state.global_step} of "
            f"{trainer.state.max_steps}; the result is written again"
        )
    save_result(trainer)
    for page in pages if trainer.args.process_index == 0 else ():
        page.build()
    trainer.create_model_card()
    push_result(trainer)


def keep_token_out_of_files(args: TrainingArguments) -> None:
    """Leave the hub's token to the environment: the arguments are pickled into every checkpoint, and uploaded."""
    if args.hub_token:
        os.environ["HF_TOKEN"] = args.hub_token
        args.hub_token = None


def build_trainer(
    model: torch.nn.Module,
    preparer: PromptPreparer,
    *,
    examples: Sequence[Example],
    held_out: Sequence[Example],
    rewards: Sequence[Callable[..., Any]],
    config: RunConfig,
    callbacks: Sequence[TrainerCallback],
    bad_rows: BadRows | None = None,
    tools: Sequence[Callable[..., Any]] = (),
    environment: Callable[[], Any] | Mapping[str, Callable[[], Any]] | None = None,
    say: Callable[[str], object] = print,
) -> MultiImageGRPOTrainer:
    """Build the trainer that a command line describes.

    Raises:
        UsageError: TRL or transformers refuses a combination of options, with their own explanation.
    """
    run = config.run
    writer = rollout_writer(rewards, config) if run.rollouts else None
    with refusing_values():
        return MultiImageGRPOTrainer(
            model,
            list(rewards),
            args=config.grpo,
            train_dataset=ExampleTable(examples),
            eval_dataset=ExampleTable(held_out) if held_out else None,
            preparer=preparer,
            group_sharing=run.group_sharing,
            shared_attention=run.shared_attention,
            verify_model=run.verify_model != "off",
            completions_per_slice=run.completions_per_slice,
            vision_learning_rate=run.vision_learning_rate,
            mismatch_kl_warn=run.mismatch_kl_warn,
            mismatch_kl_limit=run.mismatch_kl_limit,
            rollout_lag=run.rollout_lag,
            rollout_seconds=run.rollout_seconds,
            vllm_weight_transfer=run.vllm_weight_transfer,
            warn_after_steps=run.warn_after_steps,
            on_rollouts=tolerant(writer) if writer else None,
            bad_rows=bad_rows,
            tools=list(tools),
            environment_factory=environment,
            turns=turn_options(run),
            say=say,
            callbacks=list(callbacks),
            peft_config=adapter_config(config.model, model, freeze_vision=run.freeze_vision_modules),
        )


def turn_options(run: RunArguments) -> TurnOptions:
    """Return what a command line says of turns.

    Raises:
        UsageError: a value that no run can use.
    """
    return TurnOptions(**{option.name: getattr(run, option.name) for option in fields(TurnOptions)})


def bad_rows_of(config: TrainingConfig, *, num_rows: int, say: Callable[[str], object]) -> BadRows | None:
    """Return what ``--on_bad`` asks for, or None if a bad row stops the run."""
    if config.run.on_bad == "stop":
        return None
    quarantine = Path(config.trl.output_dir) / QUARANTINE
    return BadRows(max_bad=config.run.max_bad, num_rows=num_rows, seed=config.trl.seed, quarantine=quarantine, say=say)
