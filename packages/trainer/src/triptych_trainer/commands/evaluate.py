"""The command line of ``triptych eval``."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape
from transformers import GenerationConfig
from triptych_data import ImageLoader, read_examples
from trl import ModelConfig

from triptych_trainer.commands.outcome import outcome
from triptych_trainer.errors import UsageError
from triptych_trainer.evaluation.generate import score_examples
from triptych_trainer.evaluation.output import print_means, short_columns, write_json
from triptych_trainer.evaluation.page import evaluation_page
from triptych_trainer.evaluation.paired import differences
from triptych_trainer.evaluation.scores import ScoredRow, breakdowns
from triptych_trainer.models.families import family_of
from triptych_trainer.models.load import load_model, load_processor
from triptych_trainer.monitor.pace import Stopwatch, peak_bytes
from triptych_trainer.monitor.progress import Reporter
from triptych_trainer.options.arguments import image_policy
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.prompts.table import ExampleTable
from triptych_trainer.report import RolloutWriter
from triptych_trainer.rewards.boxes import FRAMES

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``triptych eval``; return 0, or 2 after one line that says what is wrong."""
    options = _parser().parse_args(argv)
    return outcome("triptych eval", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    from triptych_trainer.commands.train import quiet_libraries

    reporter = Reporter(quiet=options.quiet)
    quiet_libraries()
    names = {"model": options.model, **({"base": options.base} if options.base else {})}
    with tempfile.TemporaryDirectory(prefix="triptych-eval-") as folder:
        rollouts = {run: Path(folder) / run for run in names}
        scored = {
            run: _evaluate(path, options, name=run, rollouts=rollouts[run], reporter=reporter)
            for run, path in names.items()
        }
        by = [column for column in options.by or short_columns(scored["model"]) if column != options.position]
        sliced = {run: breakdowns(rows, by=by, position=options.position) for run, rows in scored.items()}
        paired = None
        if "base" in scored:
            paired = differences(scored["model"], scored["base"], by=by, position=options.position)
        print_means(reporter.console, sliced, paired, rewards=list(scored["model"][0].scores))
        if options.json:
            write_json(options.json, scored, sliced, paired, names=names, data=options.data)
        if options.html:
            evaluation_page(
                options.html,
                scored,
                rollouts=rollouts,
                sliced=sliced,
                paired=paired,
                by=by,
                position=options.position,
                names=names,
                data=options.data,
                answer_frame=options.answer_frame,
                completion_frame=options.completion_frame,
            )
            reporter.conclude(f"page: {escape(str(options.html))}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="triptych eval",
        description="Generate answers to held-out prompts, score them, and say where a model does well and where not.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--model", required=True, help="model folder or hub id")
    add("--base", help="a second model to set beside it, such as the one training began from")
    add("--data", required=True, help="held-out data file")
    add("--image_root", help="folder that image paths are relative to")
    add("--allow_outside", nargs="+", metavar="DIR", help="further folders that images may lie in")
    add("--allow_remote", action="store_true", help="read images at addresses")
    add("--data_format", default="auto", help="name of the data format (default: told by content)")
    add("--reward", nargs="+", default=["accuracy"], help="as for train (default: accuracy)")
    add("--num_generations", type=int, default=1, help="completions per prompt (default: 1)")
    add("--temperature", type=float, default=0.0, help="0 decodes greedily (default)")
    add("--max_completion_length", type=int, default=256)
    add("--batch_size", type=int, default=8, help="prompts at a time (default: 8)")
    add("--limit", type=int, help="only the first rows")
    add("--by", nargs="+", metavar="COLUMN", help="columns to slice by (default: those with few values)")
    add(
        "--position",
        metavar="COLUMN",
        help="column that says which image, from 1, the answer is about (default: told by answers that name an image)",
    )
    add("--min_pixels", type=int)
    add("--max_pixels", type=int)
    add("--dtype", default="auto")
    add("--seed", type=int, default=0)
    add("--trust_remote_code", action="store_true")
    add("--json", type=Path, help="write every row and every mean here")
    add("--html", type=Path, help="write a self-contained page here")
    for side, what in (("answer", "answers"), ("completion", "completions")):
        add(f"--{side}_frame", choices=FRAMES, default="seen", help=f"coordinates of boxes in {what} (default: seen)")
    add("--quiet", action="store_true")
    return parser


def _evaluate(
    path: str, options: argparse.Namespace, *, name: str, rollouts: Path, reporter: Reporter
) -> list[ScoredRow]:
    from triptych_trainer.commands.train import read_rewards

    for option, least in (("limit", 0), ("batch_size", 1), ("num_generations", 1), ("max_completion_length", 1)):
        value = getattr(options, option)
        if value is not None and value < least:
            raise UsageError(f"--{option} expects {least} or more, got {value}")
    rewards = read_rewards(options.reward)
    if not Path(options.data).exists() and "://" not in options.data:
        raise UsageError(f"--data {options.data}: no such file (looked from {Path.cwd()})")
    policy = image_policy(options)
    found = read_examples(options.data, image_root=options.image_root, format=options.data_format, policy=policy)
    examples = found[: options.limit] if options.limit else list(found)
    table = ExampleTable(examples)
    columns = sorted({name for example in examples for name in example.extras})
    for column in (*(options.by or ()), *([options.position] if options.position else ())):
        if column not in columns:
            known = ", ".join(columns) or "none"
            raise UsageError(f"the data has no column {column!r} to slice by; its further columns are: {known}")
    processor = load_processor(
        path,
        trust_remote_code=options.trust_remote_code,
        min_pixels=options.min_pixels,
        max_pixels=options.max_pixels,
        option=f"--{name}",
    )
    trust = options.trust_remote_code
    model = load_model(path, ModelConfig(dtype=options.dtype), trust_remote_code=trust, option=f"--{name}")
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    model.eval()
    torch.manual_seed(options.seed)
    rows: list[ScoredRow] = []
    stopwatch = Stopwatch()
    with ImageLoader(policy=policy) as loader, reporter.stage(f"eval {name}", len(table)) as bar:
        preparer = PromptPreparer(processor, loader=loader, family=family_of(model), keep=2 * options.batch_size)
        for batch in score_examples(
            model,
            preparer,
            table=table,
            rewards=rewards,
            generation=_generation(processor, model, options),
            num_generations=options.num_generations,
            batch_size=options.batch_size,
            on_rollouts=RolloutWriter(rollouts, policy=policy).record if options.html else None,
        ):
            rows += batch
            stopwatch.cut(tokens=sum(row.num_tokens for row in rows), images=sum(row.num_images for row in rows))
            bar.advance(len(batch), status=f"{_status(rows)}  {stopwatch.whole()}  {peak_bytes() / 2**30:.1f} GiB")
    return rows


def _generation(processor: Any, model: Any, options: argparse.Namespace) -> GenerationConfig:
    ends = model.generation_config.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    ends += [processor.tokenizer.eos_token_id] * (processor.tokenizer.eos_token_id not in ends)
    sampling: dict[str, Any] = {"do_sample": False}
    if options.temperature > 0:
        sampling = {"do_sample": True, "temperature": options.temperature, "top_k": 0, "top_p": 1.0}
    pad = processor.tokenizer.pad_token_id
    return GenerationConfig(
        max_new_tokens=options.max_completion_length,
        eos_token_id=ends,
        pad_token_id=ends[0] if pad is None else pad,
        **sampling,
    )


def _status(rows: Sequence[ScoredRow]) -> str:
    parts = []
    for name in rows[0].scores:
        scored = [row.scores[name] or 0.0 for row in rows if row.scores[name] is not None]
        parts.append(f"{name} {sum(scored) / len(scored):.3f}" if scored else f"{name} -")
    return "  ".join(parts)
