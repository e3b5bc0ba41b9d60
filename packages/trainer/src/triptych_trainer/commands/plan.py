"""``triptych plan``: what a run will need, from its command line and its data, before anything is loaded."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from triptych_data.limit import num_first
from triptych_data.option_parser import collected, refuse_given
from triptych_data.progress import Reporter
from triptych_data.seen_headers import SeenHeaders
from triptych_data.write_whole import check_target, write_whole

from triptych_trainer.commands.begun import processor_of
from triptych_trainer.commands.launch import plan_of_launch
from triptych_trainer.commands.loaded_rewards import named_weights
from triptych_trainer.commands.outcome import outcome
from triptych_trainer.commands.planned_tools import planned_tools
from triptych_trainer.errors import UsageError
from triptych_trainer.forecast.alternatives import Alternative, alternatives, cap_that_fits
from triptych_trainer.forecast.calibrate import Measured, calibrate
from triptych_trainer.forecast.checkpointing import both_forecasts, with_checkpointing
from triptych_trainer.forecast.duration import Duration, Hardware, duration
from triptych_trainer.forecast.forecast import Forecast, Subject, forecast
from triptych_trainer.forecast.room import free_memory, left_by_vllm
from triptych_trainer.forecast.row_costs import RowCounter
from triptych_trainer.forecast.show import as_json, show_alternatives, show_fit, show_forecast, show_time, size
from triptych_trainer.forecast.skeleton import build_skeleton, read_model_config
from triptych_trainer.forecast.static_memory import sharding_of
from triptych_trainer.forecast.traced_passes import Device
from triptych_trainer.models.families import use_own_family
from triptych_trainer.options.arguments import RunConfig, image_policy, parse_run, prompt_settings
from triptych_trainer.options.default_rewards import named_rewards
from triptych_trainer.options.own_code import read_environment
from triptych_trainer.options.plan_options import A100, PlanOptions, own_parser
from triptych_trainer.options.refusals import check_num_prompts, check_slices
from triptych_trainer.options.words import check_model_and_data
from triptych_trainer.prompts.row_check import row_check_of
from triptych_trainer.rewards.loading import PREFIX
from triptych_trainer.rewards.read import chosen_verdict, read_rewards
from triptych_trainer.rewards.reward_model import check_reward_model

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0, or 2 after one line that says what is wrong."""
    return outcome("triptych plan", lambda: _plan(sys.argv[1:] if argv is None else list(argv)))


def _plan(argv: Sequence[str]) -> int:
    from triptych_trainer.upstream.quiet import quiet_libraries

    namespace, rest = own_parser().parse_known_args(argv)
    own = collected(PlanOptions, namespace)
    if own.json is not None:
        check_target(Path(own.json), option="--json")
    if not own.sft:
        _check_hours(own)
    quiet_libraries()
    if own.sft:
        from triptych_trainer.commands.planned_conversations import plan_sft

        device = _device(own)
        return plan_sft(own, rest, device=device, is_elsewhere=_is_elsewhere(device))
    subject, reporter = _subject(own, rest)
    with reporter.console.status("forecasting") if reporter.console.is_terminal else _silent():
        planned, subject, choice = _planned(subject, room=_memory_bytes(own, subject) or _free_here(subject))
    show = Console(quiet=reporter.quiet, soft_wrap=True, highlight=False)
    if not show.is_terminal:
        show.width = 120
    show_forecast(planned, show)
    if choice is not None:
        show.print(choice)
    measured = calibrate(subject, planned) if own.calibrate else None
    hardware = _hardware(own, subject.device, measured)
    estimate = _estimate(planned, subject, hardware, measured, own)
    show_time(planned, subject.rows, estimate, show, hardware=hardware, measured=measured)
    memory = _memory_bytes(own, subject)
    found: list[Alternative] = []
    if not own.no_alternatives:
        found = list(alternatives(subject))
        show_alternatives(planned, found, show, memory_bytes=memory)
    cap = None
    if memory is not None:
        if planned.peak.total_bytes > memory:
            cap = cap_that_fits(subject, memory_bytes=memory)
        known = subject.counter.model.vision.factor is not None
        fit = Console(soft_wrap=True, highlight=False)  # also where the rest is quiet
        show_fit(planned, cap, fit, memory_bytes=memory, max_pixels_known=known)
    if reporter.quiet:
        hours = "" if estimate is None else f", about {estimate.hours:,.2f} hours"
        reporter.conclude(f"peak {size(planned.peak.total_bytes)} in {planned.peak.name}{hours}")
    if own.json:
        content = as_json(
            planned,
            found,
            rows=subject.rows,
            estimate=estimate,
            hardware=hardware,
            measured=measured,
            memory_bytes=memory,
            cap=cap,
        )
        write_whole(Path(own.json), (json.dumps(content, indent=1) + "\n").encode())
    return 0


def _silent() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def _subject(own: PlanOptions, rest: Sequence[str]) -> tuple[Subject, Reporter]:
    from triptych_trainer.commands.train import check_run, read_data

    device = _device(own)
    config = parse_run(
        rest, defaults={"use_cpu": True, "bf16": True} if _is_elsewhere(device) else None, own=own_parser()
    )
    check_model_and_data(config.model.model_name_or_path, config.run.data, command="plan")
    if own.json is not None:
        check_target(Path(own.json), option="--json", read=[*(config.run.data or ()), *(config.run.eval_data or ())])
    reporter = Reporter(quiet=config.run.quiet)
    use_own_family(config.run.family)
    check_run(config, runs_here=False)
    if (own.mean_completion_length or 0) > config.grpo.max_completion_length:
        raise UsageError(
            f"--mean_completion_length {own.mean_completion_length:g} is more than --max_completion_length "
            f"{config.grpo.max_completion_length}, which no completion exceeds; lower it, or raise the other"
        )
    rewards = _rewards(config)
    launched = plan_of_launch(config.run.accelerate_config, own.num_processes or config.run.num_processes)
    sharding: Any = own.sharding or launched.sharding or sharding_of(config.grpo)
    shared = config.run.group_sharing != "off"
    check_slices(config.grpo, config.run.completions_per_slice, shared=shared, sharded=sharding == "full")
    processor = processor_of(config, config.model.model_name_or_path)
    model_config = read_model_config(config)
    seen = SeenHeaders(policy=image_policy(config.run))
    environment = read_environment(config.run.environment)
    row_check = row_check_of(
        processor,
        prompt_settings(config),
        rewards=rewards,
        environments=tuple(environment) if isinstance(environment, dict) else (),
    )
    examples = read_data(config, seen, row_check=row_check, needs_prompt=not environment, writes=False)[0]
    examples = examples[: num_first(len(examples), own.limit)]
    check_num_prompts(len(examples), config.grpo)
    played = None
    if config.run.tools or config.run.environment or own.turns is not None or own.turn_image:
        played = planned_tools(config, own, processor, build_skeleton(config, model_config=model_config))
    counter = RowCounter(processor, prompt_settings(config) if played is None else played.settings, seen=seen)
    with reporter.stage("counting", len(examples)) as bar:
        begun = None if played is None else played.begun
        rows = counter.count(examples, progress=bar.move_to, begun=begun)
    num_ranks = launched.num_processes or config.grpo.world_size
    subject = Subject(
        config=config,
        model_config=model_config,
        counter=counter,
        rows=rows,
        device=device,
        num_ranks=num_ranks,
        sharding=sharding,
        turns=None if played is None else played.turns,
    )
    return subject, reporter


def _rewards(config: RunConfig) -> dict[str, Callable[..., Any]]:
    """The reward functions by their names on the command line, checked as the run does; no reward model is loaded."""
    has_environment = bool(config.run.environment)
    names = named_rewards(config.run.reward, has_environment=has_environment)
    functions = [name for name in names if not name.startswith(PREFIX)]
    for name in names:
        if name.startswith(PREFIX):
            check_reward_model(name)
    if not functions and names:
        return {}
    found = read_rewards(functions, has_environment=has_environment)
    if len(found) == len(names):
        chosen_verdict(found, config.run.verdict)
        named_weights(found, config.grpo.reward_weights)
    return dict(zip(functions, found, strict=True))


def _check_hours(own: PlanOptions) -> None:
    """Check that what says how fast a device is will be read."""
    device = _device(own)
    if own.calibrate:
        if _is_elsewhere(device):
            raise UsageError("--calibrate measures on this machine, which has no GPU; leave it out, or --device cuda")
        refuse_given(own, ("tflops", "mfu"), why="--calibrate measures it; leave --calibrate out")
    elif device == "cpu" and (own.tflops is None or own.memory_bandwidth is None):
        why = "without --tflops and --memory_bandwidth, or --calibrate, no hours of a CPU are forecast; add them"
        refuse_given(own, ("tflops", "memory_bandwidth", "mfu", "mean_completion_length"), why=why)


def _device(own: PlanOptions) -> Device:
    if own.device != "auto":
        return own.device  # type: ignore[return-value]
    return "cuda" if torch.accelerator.is_available() else "cpu"


def _is_elsewhere(device: Device) -> bool:
    """A forecast for a GPU on a machine without one: TRL's defaults for a GPU apply, but not its check for a GPU."""
    return device == "cuda" and not torch.accelerator.is_available()


def _planned(subject: Subject, *, room: int | None) -> tuple[Forecast, Subject, str | None]:
    """The forecast, the run as it will be, and what the forecast chose for it."""
    if not subject.config.chooses_checkpointing:
        return forecast(subject), subject, None
    both = both_forecasts(subject)
    chosen = with_checkpointing(subject.config, both.needs_checkpointing(room))
    return both.chosen(room), replace(subject, config=chosen), both.sentence(room)


def _free_here(subject: Subject) -> int | None:
    return free_memory() if subject.device == "cpu" else None


def _memory_bytes(own: PlanOptions, subject: Subject) -> int | None:
    stated = subject.config.run.memory_gib if own.memory_gib is None else own.memory_gib
    total = None if stated is None else int(stated * 2**30)
    if total is None and subject.device == "cuda" and torch.cuda.is_available():
        total = int(torch.cuda.get_device_properties(0).total_memory)
    return total if total is None or subject.device == "cpu" else left_by_vllm(subject.config.grpo, total)


def _hardware(own: PlanOptions, device: Device, measured: Measured | None) -> Hardware | None:
    given = {name: getattr(own, name) for name in A100}
    if device == "cpu" and measured is None and (given["tflops"] is None or given["memory_bandwidth"] is None):
        return None
    if measured is not None:  # the measured rate, taken in full
        given = {"tflops": measured.tflops, "memory_bandwidth": given["memory_bandwidth"] or 20.0, "mfu": 1.0}
    filled = {name: A100[name] if value is None else value for name, value in given.items()}
    return Hardware(**filled, assumed=any(value is None for value in given.values()), measured=measured is not None)


def _estimate(
    planned: Forecast, subject: Subject, hardware: Hardware | None, measured: Measured | None, own: PlanOptions
) -> Duration | None:
    if hardware is None:
        return None
    length = own.mean_completion_length or planned.step.completion_tokens
    return duration(planned, subject.rows, hardware, completion_tokens=length)
