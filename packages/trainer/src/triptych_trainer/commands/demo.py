"""``uv run train``: the built-in demo, from drawn pictures to a report, on a CPU in minutes."""

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

import triptych_trainer.demo as demo
from triptych_trainer.checkpoints.lock import one_run_in
from triptych_trainer.checkpoints.run import data_digest
from triptych_trainer.checkpoints.start import begin_run, choose_start
from triptych_trainer.errors import UsageError
from triptych_trainer.monitor.progress import Reporter
from triptych_trainer.monitor.run_record import write_record
from triptych_trainer.options.arguments import RunConfig, parse_run
from triptych_trainer.options.refusals import check_trackers
from triptych_trainer.rewards.read import read_rewards
from triptych_trainer.training.train import train_model
from triptych_trainer.upstream.quiet import quiet_libraries

__all__ = ["run_demo"]


def run_demo(argv: Sequence[str]) -> int:
    """Warm up a small Qwen2.5-VL, train it by GRPO on several pictures per question, and say what it learned."""
    recipe = demo.GRPORecipe()
    defaults = {**asdict(recipe.options), "output_dir": "outputs/demo", "use_cpu": True, "seed": 0}
    config = parse_run(argv, defaults=defaults)
    for option, given in (("tools", config.run.tools), ("environment", config.run.environment)):
        if given:
            raise UsageError(f"--{option}: the built-in demo has no use for it; give a model and data with it")
    torch.set_num_threads(1)  # matrices this small gain nothing from a second one, and lose tenfold on a busy machine
    reporter = Reporter(quiet=config.run.quiet)
    quiet_libraries()
    check_trackers(config.grpo)
    with one_run_in(config.grpo, say=reporter.say):
        return _run_alone(config, recipe=recipe, reporter=reporter)


def _run_alone(config: RunConfig, *, recipe: demo.GRPORecipe, reporter: Reporter) -> int:
    """Run the demo in an output folder that no other run writes into."""
    output, seed, placement = Path(config.grpo.output_dir), config.grpo.seed, _placement(config)
    reporter.say(
        "Triptych demo: questions about several pictures, answered right only by who keeps each picture in its place.\n"
        f"seed {seed}, pictures {'at their markers' if placement == 'in_place' else 'all moved to the front'}; "
        f"everything is made here and kept in {output}"
    )
    data = demo.write_dataset(
        output / "data", split="train", num_samples=recipe.num_train, seed=seed, placement=placement
    )
    examples = read_examples(data, image_root=output / "data" / "images")
    start = choose_start(config, data=data_digest(examples), say=reporter.say)
    processor = demo.build_processor(demo.build_tokenizer())
    model = demo.build_model(seed)
    warm_up_or_load(model, processor, config=config, folder=output / "warmup", reporter=reporter)
    start = begin_run(start, model=model, say=reporter.say)
    write_record(output, config, data=[data], run_id=start.run.id, resumed_from=start.checkpoint)
    before = evaluate_both(model, processor, config=config, num_samples=recipe.num_heldout)
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
    )
    if training.stopped_at is not None:
        training.trainer.accelerator.end_training()
        return 0
    after = evaluate_both(model, processor, config=config, num_samples=recipe.num_heldout)
    result = {"seed": seed, "placement": placement, "before": _numbers(before), "after": _numbers(after)}
    (output / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if not config.run.quiet:
        reporter.console.print(_table(before, after, num_samples=recipe.num_heldout))
    reporter.conclude(f"before GRPO: {_in_words(before)}")
    reporter.conclude(f"after GRPO:  {_in_words(after)}")
    reporter.conclude(f"model: {output}   log: {output / 'trainer_state.json'}")
    if config.run.rollouts and (output / "report.html").is_file():
        reporter.conclude(f"what it said: {output / 'report.html'}")
    training.trainer.accelerator.end_training()
    return 0


def warm_up_or_load(model: Any, processor: Any, *, config: RunConfig, folder: Path, reporter: Reporter) -> None:
    """Run the supervised warm-up, or load what an earlier run with the same recipe and seed left in ``folder``."""
    recipe = demo.WarmupRecipe()
    seed, placement = config.grpo.seed, _placement(config)
    identity = json.dumps([asdict(recipe), model.config.to_diff_dict(), seed, placement], sort_keys=True, default=str)
    kept = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.safetensors"
    if kept.is_file():
        load_weights(model, kept)
        model.eval()
        reporter.say(f"warm-up: taken from {kept}")
        return
    for stage in demo.STAGES:
        with reporter.stage(f"warm-up {stage.name}", stage.num_steps(recipe)) as bar:
            for step in stage.run(model, processor=processor, seed=seed, placement=placement, recipe=recipe):
                bar.advance(status=f"loss {step.loss:.3f}  right {step.accuracy:.0%}")
    model.eval()
    folder.mkdir(parents=True, exist_ok=True)
    aside = kept.with_suffix(".part")
    save_weights(model, str(aside))
    aside.replace(kept)  # a kill leaves no file that is cut short under the name that the next run looks for


def evaluate_both(model: Any, processor: Any, *, config: RunConfig, num_samples: int) -> Mapping[str, demo.Evaluation]:
    """Held-out accuracy, decoded greedily and sampled at temperature 1."""
    samples, placement = demo.heldout_samples(num_samples, seed=config.grpo.seed), _placement(config)
    return {
        name: demo.evaluate(model, processor=processor, samples=samples, placement=placement, sampled=sampled)
        for name, sampled in (("greedy", False), ("sampled", True))
    }


def _placement(config: RunConfig) -> demo.Placement:
    return "first" if config.run.placement == "first" else "in_place"


def _in_words(evaluations: Mapping[str, demo.Evaluation]) -> str:
    parts = [f"{name} {evaluation.accuracy:.3f}" for name, evaluation in evaluations.items()]
    return f"held-out accuracy {', '.join(parts)}; format {evaluations['sampled'].format:.3f}"


def _numbers(evaluations: Mapping[str, demo.Evaluation]) -> dict[str, Any]:
    return {
        name: {"accuracy": entry.accuracy, "format": entry.format, "by_kind": dict(entry.accuracy_by_kind)}
        for name, entry in evaluations.items()
    }


def _table(before: Mapping[str, demo.Evaluation], after: Mapping[str, demo.Evaluation], *, num_samples: int) -> Table:
    table = Table(title=f"accuracy on {num_samples} held-out questions")
    table.add_column("question")
    for column in ("chance", "before, greedy", "before, sampled", "after, greedy", "after, sampled"):
        table.add_column(column, justify="right")
    cells = [evaluations[name] for evaluations in (before, after) for name in ("greedy", "sampled")]
    for kind in before["sampled"].accuracy_by_kind:
        shown = [f"{entry.accuracy_by_kind[kind]:.3f}" for entry in cells]
        table.add_row(kind, f"{demo.CHANCE[kind]:.2f}", *shown)
    table.add_row("all", "", *(f"{entry.accuracy:.3f}" for entry in cells))
    return table
