"""``triptych plan --sft``: the forecast of a run of ``triptych sft``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from triptych_data import Example
from triptych_data.limit import num_first
from triptych_data.option_parser import refuse_given
from triptych_data.options import image_policy
from triptych_data.progress import Reporter
from triptych_data.seen_headers import SeenHeaders

from triptych_trainer.commands.begun import processor_of
from triptych_trainer.commands.launch import plan_of_launch
from triptych_trainer.commands.model_options import check_model_options
from triptych_trainer.commands.train import read_data
from triptych_trainer.forecast.conversations import Conversations, forecast_sft
from triptych_trainer.forecast.forecast import Forecast
from triptych_trainer.forecast.row_costs import RowCounter
from triptych_trainer.forecast.show import show_fit, show_forecast, size
from triptych_trainer.forecast.skeleton import read_model_config
from triptych_trainer.forecast.static_memory import sharding_of
from triptych_trainer.forecast.traced_passes import Device
from triptych_trainer.models.families import use_own_family
from triptych_trainer.options.own_code import read_tools
from triptych_trainer.options.plan_options import PlanOptions, own_parser
from triptych_trainer.options.sft_arguments import SftConfig, parse_sft, prompt_settings
from triptych_trainer.options.words import check_model_and_data
from triptych_trainer.sft.conversation import conversation
from triptych_trainer.sft.labels import whole_settings
from triptych_trainer.sft.row_check import row_check_of, stored_end_ids
from triptych_trainer.sft.tools import tool_dress

__all__ = ["plan_sft"]

UNREAD = (
    *("mean_completion_length", "turns", "turn_image", "tflops", "memory_bandwidth", "mfu", "calibrate", "json"),
    "no_alternatives",
)
"""Options of the command that a plan of ``sft`` does not read: it says no hours, and nothing is sampled."""


def plan_sft(own: PlanOptions, words: Sequence[str], *, device: Device, is_elsewhere: bool) -> int:
    """Forecast memory and steps of a run of ``sft``, from its own options and its data."""
    refuse_given(own, UNREAD, why="a plan of sft forecasts memory and steps and does not read it; plan a run of train")
    elsewhere = ["--use_cpu", "true", "--bf16", "true"] if is_elsewhere else []
    config = parse_sft([*words, *elsewhere], own=own_parser())
    check_model_and_data(config.model.model_name_or_path, config.run.data, command="plan")
    use_own_family(config.run.family)
    check_model_options(config, runs_here=False)
    reporter = Reporter(quiet=config.run.quiet)
    subject = _subject(config, own, device=device, reporter=reporter)
    planned = forecast_sft(subject)
    show = Console(quiet=reporter.quiet, soft_wrap=True, highlight=False)
    show_forecast(planned, show)
    show.print(_steps(planned, subject))
    if own.memory_gib is not None:
        fit = Console(soft_wrap=True, highlight=False)
        known = subject.counter.model.vision.factor is not None
        show_fit(planned, None, fit, memory_bytes=int(own.memory_gib * 2**30), max_pixels_known=known)
    if reporter.quiet:
        reporter.conclude(f"peak {size(planned.peak.total_bytes)} in {planned.peak.name}")
    return 0


def _subject(config: SftConfig, own: PlanOptions, *, device: Device, reporter: Reporter) -> Conversations:
    path, revision = str(config.model.model_name_or_path), config.model.model_revision
    processor = processor_of(config, path)
    end_ids = stored_end_ids(path, processor, revision=revision)
    dress, settings = tool_dress(processor, prompt_settings(config.run), read_tools(config.run.tools), end_ids=end_ids)
    check = row_check_of(processor, settings, end_ids=end_ids, max_tokens=config.sft.max_length, dress=dress)
    seen = SeenHeaders(policy=image_policy(config.run))
    examples = read_data(config, seen, row_check=check, reporter=reporter, sft=True, writes=False)[0]
    examples = examples[: num_first(len(examples), own.limit)]

    def whole(example: Example) -> Example:
        return conversation(example if dress is None else dress(example))

    counter = RowCounter(processor, whole_settings(settings), seen=seen)
    with reporter.stage("counting", len(examples)) as bar:
        rows = counter.count([whole(example) for example in examples], progress=bar.move_to)
    launched = plan_of_launch(config.run.accelerate_config, own.num_processes or config.run.num_processes)
    sharding: Any = own.sharding or launched.sharding or sharding_of(config.sft)
    return Conversations(
        config=config,
        model_config=read_model_config(config),
        counter=counter,
        settings=settings,
        end_ids=end_ids,
        rows=rows,
        device=device,
        num_ranks=launched.num_processes or config.sft.world_size,
        sharding=sharding,
    )


def _steps(planned: Forecast, subject: Conversations) -> str:
    step, count = planned.step, len(subject.rows)
    tokens = sum(row.num_tokens for row in subject.rows) / count
    images = sum(len(row.images.sizes) for row in subject.rows) / count
    return (
        f"{step.num_steps:,} steps; a step has {step.prompts_per_step:g} conversations with "
        f"{images * step.prompts_per_step:,.0f} images, {tokens * step.prompts_per_step:,.0f} tokens; hours are not "
        "forecast"
    )
