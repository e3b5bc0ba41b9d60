"""The command line of ``triptych eval``."""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig
from triptych_data import ImageLoader
from triptych_data.option_parser import collected
from triptych_data.options import (
    DataOptions,
    ModelOptions,
    TemplateOptions,
    check_pixels,
    data_files,
    image_policy,
    image_roots,
    prompt_settings,
)
from triptych_data.seen_headers import SeenHeaders
from trl import ModelConfig

from triptych_trainer.commands.outcome import outcome
from triptych_trainer.commands.read_files import read_files
from triptych_trainer.errors import UsageError
from triptych_trainer.evaluation.generate import score_examples
from triptych_trainer.evaluation.output import print_means, short_columns, write_json
from triptych_trainer.evaluation.page import evaluation_page
from triptych_trainer.evaluation.paired import differences
from triptych_trainer.evaluation.scores import ScoredRow, breakdowns
from triptych_trainer.models.families import family_of, use_own_family
from triptych_trainer.models.load import load_model, load_processor
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.monitor.pace import Stopwatch, peak_bytes
from triptych_trainer.monitor.progress import Reporter
from triptych_trainer.options.eval_options import EvalOptions, parser
from triptych_trainer.prompts.bad_rows import BadRows
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.prompts.judge import judge_of
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.rewards.loading import PREFIX
from triptych_trainer.rewards.read import chosen_verdict, read_rewards
from triptych_trainer.rollouts.write import RolloutWriter

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``triptych eval``; return 0, or 2 after one line that says what is wrong."""
    return outcome("triptych eval", lambda: _run(parser().parse_args(argv)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The parsed command line."""

    model: str
    loading: ModelOptions
    data: DataOptions
    prompt: TemplateOptions
    own: EvalOptions
    seen: SeenHeaders


def _run(namespace: argparse.Namespace) -> int:
    from triptych_trainer.upstream.quiet import quiet_libraries

    data, prompt = collected(DataOptions, namespace), collected(TemplateOptions, namespace)
    asked = Asked(
        model=namespace.model,
        loading=collected(ModelOptions, namespace),
        data=data,
        prompt=prompt,
        own=collected(EvalOptions, namespace),
        seen=SeenHeaders(policy=image_policy(data)),
    )
    options = asked.own
    data.data = data_files(data)
    check_pixels(prompt)
    reporter = Reporter(quiet=options.quiet)
    quiet_libraries()
    use_own_family(options.family)
    rewards = _rewards(options)
    verdict = chosen_verdict(rewards, options.verdict)
    names = {"model": asked.model, **({"base": options.base} if options.base else {})}
    with tempfile.TemporaryDirectory(prefix="triptych-eval-") as folder:
        rollouts = {run: Path(folder) / run for run in names}
        scored = {
            run: _evaluate(path, asked, name=run, rewards=rewards, rollouts=rollouts[run], reporter=reporter)
            for run, path in names.items()
        }
        by = [column for column in options.by or short_columns(scored["model"]) if column != options.position]
        sliced = {run: breakdowns(rows, by=by, position=options.position) for run, rows in scored.items()}
        paired = None
        if "base" in scored:
            paired = differences(scored["model"], scored["base"], by=by, position=options.position)
        print_means(reporter.console, sliced, paired, rewards=list(scored["model"][0].scores))
        data_name = " ".join(data.eval_data or data.data)
        if options.json:
            write_json(Path(options.json), scored, sliced, paired, names=names, data=data_name)
        if options.html:
            evaluation_page(
                Path(options.html),
                scored,
                rollouts=rollouts,
                sliced=sliced,
                paired=paired,
                by=by,
                position=options.position,
                names=names,
                data=data_name,
                verdict=verdict,
                answer_frame=options.answer_frame,  # type: ignore[arg-type]
                completion_frame=options.completion_frame,  # type: ignore[arg-type]
            )
            reporter.conclude(f"page: {options.html}")
    return 0


def _rewards(options: EvalOptions) -> list[Callable[..., Any]]:
    if models := [spec for spec in options.reward if spec.startswith(PREFIX)]:
        raise UsageError(
            f"--reward {models[0]}: expected reward functions, got a reward model, which scores only while `train` "
            "runs; leave it out here"
        )
    return read_rewards(options.reward)


def _evaluate(
    path: str,
    asked: Asked,
    *,
    name: str,
    rewards: Sequence[Callable[..., Any]],
    rollouts: Path,
    reporter: Reporter,
) -> list[ScoredRow]:
    options = asked.own
    roots, held_out_roots = image_roots(asked.data)
    files, roots = (asked.data.eval_data, held_out_roots) if asked.data.eval_data else (asked.data.data or [], roots)
    processor = load_processor(
        path,
        revision=asked.loading.model_revision,
        trust_remote_code=asked.loading.trust_remote_code,
        min_pixels=asked.prompt.min_pixels,
        max_pixels=asked.prompt.max_pixels,
        option=f"--{name}",
    )
    settings = prompt_settings(asked.data, asked.prompt)
    judge = judge_of(processor, settings, rewards=dict(zip(options.reward, rewards, strict=True)))
    examples = read_files(files, roots, asked.data, seen=asked.seen, judge=judge)
    examples = examples[: options.limit] if options.limit else examples
    columns = examples.checked.columns
    for column in (*(options.by or ()), *([options.position] if options.position else ())):
        if column not in columns:
            known = ", ".join(columns) or "none"
            raise UsageError(f"the data has no column {column!r} to slice by; its further columns are: {known}")
    table = ExampleTable(examples)
    config = ModelConfig(dtype=options.dtype, model_revision=asked.loading.model_revision or "main")
    trust = asked.loading.trust_remote_code
    model = load_model(path, config, trust_remote_code=trust, option=f"--{name}")
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    model.eval()
    torch.manual_seed(options.seed)
    rows: list[ScoredRow] = []
    stopwatch = Stopwatch()
    bad = None
    if asked.data.on_bad == "skip":
        bad = BadRows(max_bad=asked.data.max_bad, num_rows=len(table), say=reporter.say)
    writer = RolloutWriter(rollouts, policy=settings.policy)
    with (
        ImageLoader(policy=settings.policy, seen=asked.seen) as loader,
        reporter.stage(f"eval {name}", len(table)) as bar,
    ):
        preparer = PromptPreparer(
            processor, loader=loader, family=family_of(unwrap(model)), settings=settings, keep=2 * options.batch_size
        )
        for batch in score_examples(
            model,
            preparer,
            table=table,
            rewards=rewards,
            generation=_generation(processor, model, options),
            num_generations=options.num_generations,
            batch_size=options.batch_size,
            on_rollouts=writer.record if options.html else None,
            bad_rows=bad,
            verify_model=options.verify_model != "off",
        ):
            rows += batch
            stopwatch.cut(tokens=sum(row.num_tokens for row in rows), images=sum(row.num_images for row in rows))
            bar.advance(len(batch), status=f"{_status(rows)}  {stopwatch.whole()}  {peak_bytes() / 2**30:.1f} GiB")
    if not rows:
        raise UsageError(f"none of the {len(table)} rows could be scored; `triptych check --decode` says why")
    return rows


def _generation(processor: Any, model: Any, options: EvalOptions) -> GenerationConfig:
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
