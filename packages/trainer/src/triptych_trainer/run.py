"""``train``: read and check the data, load the model, run GRPO, save what transformers loads back."""

import gc
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging as transformers_logging
from triptych_data import DataError, Example, ImageError, ImageLoader, read_examples
from triptych_parser import MarkerError
from trl import get_peft_config

from triptych_trainer.arguments import RunConfig, UsageError, parse_run, wants_demo
from triptych_trainer.groups import GroupSplitError
from triptych_trainer.grpo import MultiImageGRPOTrainer
from triptych_trainer.loading import freeze_vision_modules, load_model, load_processor
from triptych_trainer.prepare import PromptPreparer, PromptTooLongError
from triptych_trainer.progress import Reporter, StepProgress
from triptych_trainer.record import write_record
from triptych_trainer.rewards import RewardError, guarded, load_reward
from triptych_trainer.seams import SeamError
from triptych_trainer.table import ExampleTable

__all__ = ["REFUSALS", "Training", "main", "read_data", "resume_folder", "train_model"]

REFUSALS = (
    *(UsageError, DataError, ImageError, MarkerError),
    *(PromptTooLongError, GroupSplitError, SeamError, RewardError),
)
"""Errors whose text is meant for the user: printed as one line, exit code 2."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """A finished training: the trainer with its model, and what it logged."""

    trainer: MultiImageGRPOTrainer
    logged: list[dict[str, float]]


def main(argv: Sequence[str]) -> int:
    """Run ``train`` and return its exit code: 0, or 2 with one line on standard error."""
    try:
        if wants_demo(argv):
            from triptych_trainer.demo_run import run_demo

            return run_demo(argv)
        config = parse_run(argv)
        return run(config, reporter=Reporter(quiet=config.run.quiet))
    except REFUSALS as error:
        print(f"train: error: {error}", file=sys.stderr)
        return 2


def run(config: RunConfig, *, reporter: Reporter) -> int:
    """Train a model folder or hub id on data files."""
    if config.model.model_name_or_path is None or not config.run.data:
        missing = "--model_name_or_path" if config.run.data else "--data"
        raise UsageError(f"{missing} is missing: give a model and data, or neither for the built-in demo")
    quiet_libraries()
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
    model = load_model(path, config.model, trust_remote_code=trust)
    write_record(output, config, data=[Path(file) for file in (*config.run.data, *(config.run.eval_data or ()))])
    training = train_model(
        model, processor, examples=examples, held_out=held_out, rewards=rewards, config=config, reporter=reporter
    )
    reporter.conclude(f"model: {output}   log: {output / 'trainer_state.json'}")
    training.trainer.end()
    return 0


def read_rewards(specs: Sequence[str]) -> list[Callable[..., Any]]:
    """Load the rewards that ``--reward`` names, wrapped so that a failure names function, sample and completion."""
    try:
        return [guarded(load_reward(spec)) for spec in specs]
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
        for example in read_examples(file, image_root=root, format=config.run.data_format)
    ]


def train_model(
    model: torch.nn.Module,
    processor: Any,
    *,
    examples: Sequence[Example],
    held_out: Sequence[Example],
    rewards: Sequence[Callable[..., Any]],
    config: RunConfig,
    reporter: Reporter,
    stage: str = "GRPO",
) -> Training:
    """Run GRPO and save the final model, the processor and the trainer's state into the output folder."""
    if config.run.freeze_vision_modules:
        frozen = freeze_vision_modules(model)
        reporter.say(f"{frozen / 1e6:.1f} M parameters outside the language model are frozen")
    config.grpo.disable_tqdm = True
    loader = ImageLoader(threads=config.run.image_threads, memory_bytes=int(config.run.image_cache_gb * 2**30))
    try:
        preparer = PromptPreparer(
            processor,
            loader=loader,
            keep=2 * max(config.grpo.generation_batch_size, config.grpo.per_device_eval_batch_size),
            chat_template_kwargs=config.grpo.chat_template_kwargs,
        )
        with reporter.stage(stage, config.grpo.max_steps if config.grpo.max_steps > 0 else None) as bar:
            progress = StepProgress(bar)
            trainer = MultiImageGRPOTrainer(
                model,
                rewards,
                args=config.grpo,
                table=ExampleTable([*examples, *held_out]),
                num_train=len(examples),
                preparer=preparer,
                group_sharing=config.run.group_sharing,
                callbacks=[progress],
                peft_config=get_peft_config(config.model),
            )
            trainer.remove_callback(PrinterCallback)  # the stage shows what it would print
            trainer.train(resume_from_checkpoint=resume_folder(config))
        trainer.save_model(config.grpo.output_dir)
        trainer.save_state()
        return Training(trainer=trainer, logged=progress.logged)
    finally:
        loader.close()
        gc.collect()


def resume_folder(config: RunConfig) -> str | None:
    """Return the checkpoint folder that ``--resume_from_checkpoint`` means; ``latest`` is the newest of the output.

    Raises:
        UsageError: it names no checkpoint.
    """
    asked = config.grpo.resume_from_checkpoint
    if not asked or str(asked).lower() == "false":
        return None
    if str(asked).lower() not in ("latest", "true"):
        if not Path(asked).is_dir():
            raise UsageError(
                f"--resume_from_checkpoint {asked}: no such folder; `latest` takes the newest of the output"
            )
        return str(asked)
    output = Path(config.grpo.output_dir)
    found = get_last_checkpoint(str(output)) if output.is_dir() else None
    if found is None:
        raise UsageError(f"--resume_from_checkpoint {asked}: {output} holds no checkpoint; start without the option")
    return found


def quiet_libraries() -> None:
    """Leave the terminal to this run's own lines: warnings of the libraries stay, their progress bars go."""
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
