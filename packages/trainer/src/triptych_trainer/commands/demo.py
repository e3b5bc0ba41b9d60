"""``uv run train``: a built-in demo, from drawn pictures to a report, on a CPU in minutes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from safetensors.torch import load_model as load_weights
from safetensors.torch import save_model as save_weights
from triptych_data import read_examples
from triptych_data.progress import Reporter

from triptych_trainer.checkpoints.card import write_card
from triptych_trainer.checkpoints.lock import one_run_in
from triptych_trainer.checkpoints.run import data_digest
from triptych_trainer.checkpoints.start import begin_run, choose_start
from triptych_trainer.demo.built_in import BuiltIn, built_in
from triptych_trainer.demo.evaluate import Evaluation
from triptych_trainer.errors import UsageError
from triptych_trainer.monitor.run_record import write_record
from triptych_trainer.options.arguments import RunConfig, parse_run
from triptych_trainer.options.refusals import check_trackers
from triptych_trainer.rewards.read import read_rewards
from triptych_trainer.training.train import train_model
from triptych_trainer.upstream.quiet import quiet_libraries

__all__ = ["run_demo"]


def run_demo(argv: Sequence[str]) -> int:
    """Warm up a small Qwen2.5-VL, train it by GRPO on a demo's questions, and say what it learned."""
    name = parse_run(argv).run.demo
    defaults = asdict(built_in(name, seed=0).recipe.options)
    folder = "outputs/demo" if name == "places" else f"outputs/demo_{name}"
    config = parse_run(argv, defaults={**defaults, "output_dir": folder, "use_cpu": True, "seed": 0})
    _check(config)
    demo = built_in(
        name,
        seed=config.grpo.seed,
        placement="first" if config.run.placement == "first" else "in_place",
        blank_tool=config.run.blank_tool,
    )
    torch.set_num_threads(1)  # matrices this small gain nothing from a second one, and lose tenfold on a busy machine
    reporter = Reporter(quiet=config.run.quiet)
    quiet_libraries()
    check_trackers(config.grpo)
    with one_run_in(config.grpo, say=reporter.say):
        return _run_alone(config, demo=demo, reporter=reporter)


def _check(config: RunConfig) -> None:
    """Refuse what the chosen demo would not use."""
    run = config.run
    for option, given in (("tools", run.tools), ("environment", run.environment)):
        if given:
            raise UsageError(f"--{option}: the built-in demo has no use for it; give a model and data with it")
    if run.blank_tool and run.demo != "look":
        raise UsageError(f"--blank_tool: the demo {run.demo!r} has no tool; add --demo look")
    if run.placement != "in_place" and run.demo != "places":
        raise UsageError(f"--placement {run.placement}: the demo {run.demo!r} has one image a prompt; leave it out")


def _run_alone(config: RunConfig, *, demo: BuiltIn, reporter: Reporter) -> int:
    """Run the demo in an output folder that no other run writes into."""
    output, recipe = Path(config.grpo.output_dir), demo.recipe
    reporter.say(f"Triptych demo: {demo.about}; everything is made here and kept in {output}")
    data = demo.write_data(output / "data", split="train", num_samples=recipe.num_train)
    examples = read_examples(data, image_root=output / "data" / "images")
    start = choose_start(config, data=data_digest(examples), say=reporter.say, warn=reporter.conclude)
    model, processor = demo.build()
    warm_up_or_load(model, processor, demo=demo, seed=config.grpo.seed, folder=output / "warmup", reporter=reporter)
    start = begin_run(start, model=model, say=reporter.say)
    write_record(output, config, data=[data], run_id=start.run.id, resumed_from=start.checkpoint)
    before = evaluate_both(model, processor, demo=demo, folder=output / "data")
    reporter.say(f"before GRPO: {_in_words(before)}")
    training = train_model(
        model,
        processor,
        examples=examples,
        held_out=[],
        rewards=read_rewards(config.run.reward),
        config=config,
        start=start,
        reporter=reporter,
        environment=demo.environment,
    )
    if training.stopped_at is not None:
        training.trainer.accelerator.end_training()
        return 0
    after = evaluate_both(model, processor, demo=demo, folder=output / "data")
    result = {
        "demo": demo.name,
        "seed": config.grpo.seed,
        **demo.settings,
        "before": _numbers(before),
        "after": _numbers(after),
    }
    (output / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    write_card(training.trainer, measured=_measured(before, after))
    if not config.run.quiet:
        for table in _tables(before, after, demo=demo):
            reporter.console.print(table)
    reporter.conclude(f"before GRPO: {_in_words(before)}")
    reporter.conclude(f"after GRPO:  {_in_words(after)}")
    reporter.conclude(f"model: {output}   log: {output / 'trainer_state.json'}")
    if config.run.rollouts and (output / "report.html").is_file():
        reporter.conclude(f"what it said: {output / 'report.html'}")
    training.trainer.accelerator.end_training()
    return 0


def warm_up_or_load(model: Any, processor: Any, *, demo: BuiltIn, seed: int, folder: Path, reporter: Reporter) -> None:
    """Run the supervised warm-up, or load what an earlier run with the same recipe and seed left in ``folder``."""
    kept = folder / f"{_warm_up_digest(model, demo=demo, seed=seed)}.safetensors"
    if kept.is_file():
        load_weights(model, kept)
        model.eval()
        reporter.say(f"warm-up: taken from {kept}")
        return
    for stage in demo.stages:
        with reporter.stage(f"warm-up {stage.name}", stage.num_steps(demo.warmup)) as bar:
            for step in demo.run_stage(stage, model, processor=processor, recipe=demo.warmup):
                bar.advance(status=f"loss {step.loss:.3f}  right {step.accuracy:.0%}")
    model.eval()
    folder.mkdir(parents=True, exist_ok=True)
    aside = kept.with_suffix(".part")
    save_weights(model, str(aside))
    aside.replace(kept)  # a kill leaves no file that is cut short under the name that the next run looks for


def _warm_up_digest(model: Any, *, demo: BuiltIn, seed: int) -> str:
    """What the warm-up depends on; a tool that is switched off is not among it."""
    placement = demo.settings.get("placement")
    identity = [asdict(demo.warmup), model.config.to_diff_dict(), seed, placement or demo.name]
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]


def evaluate_both(model: Any, processor: Any, *, demo: BuiltIn, folder: Path) -> Mapping[str, Evaluation]:
    """Return held-out accuracy, decoded greedily and sampled at temperature 1."""
    return {
        name: demo.evaluate(model, processor, folder=folder, sampled=sampled)
        for name, sampled in (("greedy", False), ("sampled", True))
    }


def _in_words(evaluations: Mapping[str, Evaluation]) -> str:
    parts = [f"{name} {evaluation.accuracy:.3f}" for name, evaluation in evaluations.items()]
    sampled = evaluations["sampled"]
    calls = ", ".join(f"{kind} {count:.2f}" for kind, count in (sampled.calls_by_kind or {}).items())
    return f"held-out accuracy {', '.join(parts)}; format {sampled.format:.3f}{f'; calls {calls}' if calls else ''}"


def _measured(before: Mapping[str, Evaluation], after: Mapping[str, Evaluation]) -> dict[str, tuple[float, float]]:
    """What the model card says of the held-out questions."""
    return {
        f"{what}, {name}": (getattr(before[name], what), getattr(after[name], what))
        for what in ("accuracy", "format")
        for name in before
    }


def _numbers(evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
    return {
        name: {
            "accuracy": entry.accuracy,
            "format": entry.format,
            "by_kind": dict(entry.accuracy_by_kind),
            **({} if entry.calls_by_kind is None else {"calls_by_kind": dict(entry.calls_by_kind)}),
        }
        for name, entry in evaluations.items()
    }


def _tables(before: Mapping[str, Evaluation], after: Mapping[str, Evaluation], *, demo: BuiltIn) -> list[Table]:
    """Accuracy by kind of question, and with tools the calls of a rollout."""
    columns = [
        (f"{when}, {name}", entry[name]) for when, entry in (("before", before), ("after", after)) for name in entry
    ]
    title = f"accuracy on {demo.recipe.num_heldout} held-out questions"
    accuracy = _table(title, first="chance", columns=[name for name, _ in columns])
    for kind in before["sampled"].accuracy_by_kind:
        chance = demo.chance[kind]
        shown = [f"{entry.accuracy_by_kind[kind]:.3f}" for _, entry in columns]
        accuracy.add_row(kind, "" if chance is None else f"{chance:.2f}", *shown)
    accuracy.add_row("all", "", *(f"{entry.accuracy:.3f}" for _, entry in columns))
    if demo.calls is None:
        return [accuracy]
    calls = _table("calls per rollout", first="needed", columns=[name for name, _ in columns])
    for kind, needed in demo.calls.items():
        calls.add_row(kind, str(needed), *(f"{(entry.calls_by_kind or {})[kind]:.2f}" for _, entry in columns))
    return [accuracy, calls]


def _table(title: str, *, first: str, columns: Sequence[str]) -> Table:
    table = Table(title=title)
    table.add_column("question")
    for column in (first, *columns):
        table.add_column(column, justify="right")
    return table
