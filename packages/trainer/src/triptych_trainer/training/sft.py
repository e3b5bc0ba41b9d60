"""One SFT training from model and examples to a saved model and its log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import TrainerCallback
from triptych_data import Example, ImageLoader
from triptych_data.progress import Reporter
from triptych_data.prompt_settings import PromptSettings
from triptych_data.seen_headers import SeenHeaders

from triptych_trainer.checkpoints.signals import StopOnRequest, sigterm_as_request
from triptych_trainer.checkpoints.start import Start
from triptych_trainer.errors import refusing_values
from triptych_trainer.models.adapters import adapter_config
from triptych_trainer.models.families import family_of
from triptych_trainer.models.load import freeze_vision_modules
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.monitor.pace import closing_table
from triptych_trainer.monitor.step_progress import StepProgress
from triptych_trainer.options.sft_arguments import SftConfig
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.report.learned import build_learned_report
from triptych_trainer.sft.tools import Dress
from triptych_trainer.sft.trl.trainer import MultiImageSFTTrainer
from triptych_trainer.training.fresh_report import FreshReport
from triptych_trainer.training.train import (
    Training,
    bad_rows_of,
    conclude,
    image_loader,
    keep_token_out_of_files,
    run_trainer,
)

__all__ = ["train_sft"]


def train_sft(
    model: torch.nn.Module,
    processor: object,
    *,
    examples: Sequence[Example],
    held_out: Sequence[Example],
    config: SftConfig,
    start: Start,
    reporter: Reporter,
    settings: PromptSettings,
    dress: Dress | None = None,
    seen: SeenHeaders | None = None,
) -> Training:
    """Train on the assistant's turns, and save model, processor and the trainer's state into the output folder.

    ``settings`` write the rows as prompts, to which ``dress`` adds the tools of the run.
    """
    if config.run.freeze_vision_modules:
        frozen = freeze_vision_modules(model)
        reporter.say(f"{frozen / 1e6:.1f} M parameters outside the language model are frozen")
    config.sft.disable_tqdm = True
    keep_token_out_of_files(config.sft)
    states = ("trainer_state.json", "checkpoint-*/trainer_state.json")
    page = FreshReport(Path(config.sft.output_dir), needs=states, write=build_learned_report)
    with image_loader(config, seen=seen) as loader, sigterm_as_request() as request:
        with reporter.stage("SFT", config.sft.max_steps if config.sft.max_steps > 0 else None) as bar:
            progress = StepProgress(bar)
            trainer = _trainer(
                model,
                processor,
                loader=loader,
                examples=examples,
                held_out=held_out,
                config=config,
                settings=settings,
                dress=dress,
                callbacks=[progress, StopOnRequest(request), page],
                reporter=reporter,
            )
            if config.sft.packing and trainer.why_not_packed is not None:
                reporter.say(
                    f"rows are padded instead of packed, because {trainer.why_not_packed}; this is slower, but "
                    "equally correct"
                )
            run_trainer(trainer, progress=progress, start=start, seen=loader.seen)
        training = Training(trainer=trainer, logged=progress.logged, stopped_at=request.stopped_at)
        conclude(training, pages=[page], start=start, stage="SFT", reporter=reporter)
    if training.stopped_at is None and progress.logged and not reporter.quiet:
        title = f"SFT, {trainer.state.global_step} steps"
        reporter.console.print(closing_table(progress.logged, progress.stopwatch.whole(), title=title))
    return training


def _trainer(
    model: torch.nn.Module,
    processor: object,
    *,
    loader: ImageLoader,
    examples: Sequence[Example],
    held_out: Sequence[Example],
    config: SftConfig,
    settings: PromptSettings,
    dress: Dress | None,
    callbacks: Sequence[TrainerCallback],
    reporter: Reporter,
) -> MultiImageSFTTrainer:
    """Build the trainer that a command line describes.

    Raises:
        UsageError: TRL or transformers refuses a combination of options, with their own explanation.
    """
    run, batch = config.run, max(config.sft.per_device_train_batch_size, config.sft.per_device_eval_batch_size)
    preparer = PromptPreparer(
        processor, loader=loader, family=family_of(unwrap(model)), settings=settings, keep=2 * batch
    )
    with refusing_values():
        return MultiImageSFTTrainer(
            model,
            config.sft,
            train_dataset=ExampleTable(examples),
            eval_dataset=ExampleTable(held_out) if held_out else None,
            preparer=preparer,
            verify_model=run.verify_model != "off",
            vision_learning_rate=run.vision_learning_rate,
            dress=dress,
            bad_rows=bad_rows_of(config, num_rows=len(examples), say=reporter.say),
            callbacks=list(callbacks),
            peft_config=adapter_config(config.model, model, freeze_vision=run.freeze_vision_modules),
        )
