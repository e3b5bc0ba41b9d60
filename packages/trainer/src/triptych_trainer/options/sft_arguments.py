"""The command line of `triptych sft`: Triptych's own options next to those of TRL's SFTConfig and ModelConfig."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from transformers import TrainingArguments
from triptych_data.option_parser import OptionParser, checked
from triptych_data.options import check_pixels, json_object
from triptych_data.options import prompt_settings as settings_of
from triptych_data.prompt_settings import PromptSettings
from trl import ModelConfig, SFTConfig, TrlParser

from triptych_trainer.errors import UsageError
from triptych_trainer.options.arguments import TrainingConfig, parsed, parser_of
from triptych_trainer.options.checkpointing import check_checkpointing
from triptych_trainer.options.refusals import check_accelerator, check_deepspeed
from triptych_trainer.options.schedule import check_schedule
from triptych_trainer.options.sft_options import SftArguments
from triptych_trainer.options.unread import IN_A_RUN, OF_4_BITS, OF_ADAPTERS, OF_TRAININGS, check_rules
from triptych_trainer.options.values import SFT_WORDS, check_numbers, check_packages, check_values

__all__ = ["SftConfig", "check_options", "parse_sft", "prompt_settings", "sft_parser"]

_LABELS = "the tokens of the assistant's turns are trained, and no others"
_ROWS = "the rows are read as `triptych check` reads them"
_TOKENS = "the model's own template, tokens and ids are used"
_LOSS_ALONE = "evaluation computes the loss alone, so there are no predictions"
_NO_WORKERS = "threads decode the images (--image_threads), so that there is nothing for workers to load"
NEVER: Mapping[str, str] = {
    **dict.fromkeys(("assistant_only_loss", "completion_only_loss", "label_names"), _LABELS),
    **dict.fromkeys(("dataset_text_field", "dataset_kwargs", "dataset_num_proc"), _ROWS),
    **dict.fromkeys(("chat_template_path", "eos_token", "pad_token"), _TOKENS),
    "shuffle_dataset": "each epoch has an order of its own, by --seed or --data_seed",
    "truncation_mode": "no row is ever cut; --max_length refuses longer ones",
    **dict.fromkeys(
        ("packing_strategy", "padding_free"), "--packing lays the rows of a micro-batch behind one another"
    ),
    "eval_packing": "evaluation lays its rows out as --packing says",
    "pad_to_multiple_of": "--packing needs no pads, and without it they change nothing",
    "label_smoothing_factor": "the loss is that of the labels alone",
    "neftune_noise_alpha": "its noise would give other numbers than the model's own forward",
    "use_liger_kernel": "TRL gives it up for hub kernels",
    "activation_offloading": "it was never tried with these passes; set --gradient_checkpointing",
    "include_num_input_tokens_seen": "the log counts them always, as num_tokens",
    "enable_jit_checkpoint": "SIGTERM always saves a checkpoint first",
    "parallelism_config": "a row with images cannot be split over devices",
    "length_column_name": "rows are not grouped by length",
    "use_cache": "the tokens of a row are all forwarded at once, without a cache",
    **dict.fromkeys(
        (
            *("dataloader_num_workers", "dataloader_persistent_workers", "dataloader_prefetch_factor"),
            *("dataloader_multiprocessing_context", "dataloader_in_order"),
        ),
        _NO_WORKERS,
    ),
    **dict.fromkeys(
        (
            *("prediction_loss_only", "eval_do_concat_batches", "eval_use_gather_object", "eval_accumulation_steps"),
            *("include_for_metrics", "batch_eval_metrics", "do_predict"),
        ),
        _LOSS_ALONE,
    ),
}
"""Options of transformers and TRL that this trainer cannot read, and why."""
AS_GIVEN = ("pad_to_multiple_of",)
"""Options that are checked on command lines only: transformers or TRL set them themselves."""
_PARTS = (SftArguments, SFTConfig, ModelConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class SftConfig(TrainingConfig):
    """Contains the parsed command line of `triptych sft`."""

    run: SftArguments
    sft: SFTConfig

    @property
    def trl(self) -> TrainingArguments:
        """The options of TRL's trainer."""
        return self.sft


def prompt_settings(run: SftArguments) -> PromptSettings:
    """Return the settings by which the rows of a run become prompts."""
    return settings_of(
        run,
        run,
        chat_template_kwargs=json_object("{}" if run.chat_template_kwargs is None else run.chat_template_kwargs),
    )


def sft_parser() -> TrlParser:
    """Return the parser of a run, with every option of TRL."""
    return parser_of(_PARTS, command="triptych sft", defaults={"max_length": None})


def parse_sft(argv: Sequence[str], *, own: OptionParser | None = None) -> SftConfig:
    """Parse a command line; explicit options win over ``--config``. ``own`` is the parser of a command that took its
    further options from the line before.

    Raises:
        UsageError: an unknown option, a value that TRL or transformers refuses, or an option that no run reads.
    """
    found = parsed(argv, sft_parser(), parts=_PARTS, own=own)
    run, sft, model = found.parts
    check_pixels(checked(run))
    prompt_settings(run)  # refuses what it cannot use
    _check_given(found.options, sft, model, run)
    check_options(sft)
    return SftConfig(run=run, sft=sft, model=model, command=found.command, options=found.options)


def check_options(args: SFTConfig) -> None:
    """Check the options of a run before anything is loaded.

    Raises:
        UsageError: names the option, why it cannot be used, and what to set instead.
    """
    check_values(args, words=SFT_WORDS)
    check_packages(args)
    check_deepspeed(args)
    check_checkpointing(args)
    check_accelerator(args)
    check_schedule(args)
    if args.max_length is not None and args.max_length < 1:
        raise UsageError(f"--max_length expects 1 or more, got {args.max_length}")
    given = {}
    for option in fields(SFTConfig):
        default = option.default_factory() if option.default_factory is not MISSING else option.default
        if option.name in NEVER and option.name not in AS_GIVEN and getattr(args, option.name) != default:
            given[option.name] = getattr(args, option.name)
    check_rules(given, args, never=NEVER, needs=())


def _check_given(given: Mapping[str, Any], args: SFTConfig, model: ModelConfig, run: SftArguments) -> None:
    for name, why in IN_A_RUN.items():
        if name in given:
            raise UsageError(f"--{name}: {why}" + ("" if "set" in why else "; leave it out"))
    check_rules(given, args, never=NEVER, needs=OF_TRAININGS)
    check_numbers(model)
    if (args.eval_strategy != "no" or args.eval_on_start) and not run.eval_data:
        raise UsageError("--eval_strategy, --eval_on_start: nothing is held out to evaluate on; add --eval_data")
    for names, holds, remedy in (
        (OF_ADAPTERS, model.use_peft, "add --use_peft"),
        (OF_4_BITS, model.load_in_4bit, "add --load_in_4bit"),
        (("model_revision",), not Path(model.model_name_or_path or "").is_dir(), "name a model of the hub"),
    ):
        for name in names:
            if name in given and not holds:
                raise UsageError(f"--{name} is read by nothing in this run; {remedy}, or leave it out")
