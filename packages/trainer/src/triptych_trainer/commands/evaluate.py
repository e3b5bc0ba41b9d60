"""The command line of ``triptych eval``."""

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from triptych_data import Examples, ImageLoader
from triptych_data.checked import RowCheck
from triptych_data.limit import num_first
from triptych_data.option_parser import collected
from triptych_data.options import image_policy
from triptych_data.progress import Reporter
from triptych_data.seen_headers import SeenHeaders
from triptych_data.shared_options import SharedOptions, shared_options

from triptych_trainer.commands.given_options import given_options
from triptych_trainer.commands.light_checks import check_eval
from triptych_trainer.commands.loaded_rewards import reward_functions
from triptych_trainer.commands.outcome import outcome
from triptych_trainer.commands.playing import Playing, playing_of
from triptych_trainer.commands.read_files import read_files
from triptych_trainer.commands.sampled import generation_config, model_to_sample
from triptych_trainer.errors import UsageError
from triptych_trainer.evaluation.calls import call_counts, calls_in_words
from triptych_trainer.evaluation.output import print_means, short_columns, write_json
from triptych_trainer.evaluation.page import evaluation_page
from triptych_trainer.evaluation.paired import differences
from triptych_trainer.evaluation.positions import check_positions
from triptych_trainer.evaluation.scored_rows import score_examples
from triptych_trainer.evaluation.scores import ScoredRow, breakdowns
from triptych_trainer.models.families import family_of, use_own_family
from triptych_trainer.models.load import chosen_processor
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.monitor.pace import Stopwatch, peak_bytes
from triptych_trainer.options.default_rewards import named_rewards
from triptych_trainer.options.eval_options import EvalOptions, parser
from triptych_trainer.options.tool_options import PlayOptions
from triptych_trainer.prompts.bad_rows import BadRows
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.prompts.row_check import row_check_of
from triptych_trainer.rewards.read import chosen_verdict
from triptych_trainer.rollouts.write import RolloutWriter

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``triptych eval``; return 0, or 2 after one line that says what is wrong."""
    return outcome("triptych eval", lambda: _run(parser().parse_args(argv)))


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedEvaluation:
    """Contains the parsed command line."""

    model: str
    given: Mapping[str, Any]
    """The options that differ from their defaults, for both models."""
    shared: SharedOptions
    own: EvalOptions
    seen: SeenHeaders
    playing: Playing | None = None
    """The tools and environments that answer the model."""


def _run(namespace: argparse.Namespace) -> int:
    from triptych_trainer.upstream.quiet import quiet_libraries

    check_eval(namespace)
    shared = shared_options(namespace)
    own, play_options = collected(EvalOptions, namespace), collected(PlayOptions, namespace)
    asked = AskedEvaluation(
        model=namespace.model,
        given=given_options(shared.data, shared.prompt, shared.loading, own, play_options),
        shared=shared,
        own=own,
        seen=SeenHeaders(policy=image_policy(shared.data)),
        playing=playing_of(play_options),
    )
    options = asked.own
    reporter = Reporter(quiet=options.quiet)
    quiet_libraries()
    use_own_family(options.family)
    has_environment = asked.playing is not None and asked.playing.factory is not None
    options.reward = named_rewards(options.reward, has_environment=has_environment)
    rewards = reward_functions(options.reward, has_environment=has_environment)
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
        for run, rows in scored.items():
            if (counts := call_counts(rows)) is not None:
                reporter.say(f"{run}: {calls_in_words(counts)}")
        data_name = " ".join(file for file, _ in shared.held_out_files or shared.train_files)
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


def _evaluate(
    path: str,
    asked: AskedEvaluation,
    *,
    name: str,
    rewards: Sequence[Callable[..., Any]],
    rollouts: Path,
    reporter: Reporter,
) -> list[ScoredRow]:
    options, shared = asked.own, asked.shared
    processor = chosen_processor(path, shared.loading, shared.prompt, option=f"--{name}")
    row_check = row_check_of(
        processor,
        shared.settings,
        rewards=dict(zip(options.reward, rewards, strict=True)),
        environments=() if asked.playing is None else asked.playing.names,
    )
    table = ExampleTable(_examples(asked, row_check, given={**asked.given, "model_name_or_path": path}))
    model = model_to_sample(path, shared.loading, dtype=options.dtype, option=f"--{name}")
    torch.manual_seed(options.seed)
    rows: list[ScoredRow] = []
    stopwatch = Stopwatch()
    bad = None
    if shared.data.on_bad == "skip":
        bad = BadRows(max_bad=shared.data.max_bad, num_rows=len(table), say=reporter.say)
    policy = shared.settings.policy
    with ImageLoader(policy=policy, seen=asked.seen) as loader, reporter.stage(f"eval {name}", len(table)) as bar:
        preparer = _preparer(processor, model, asked, loader=loader)
        generation = generation_config(processor, model.generation_config, options)
        play = None
        if asked.playing is not None:
            play = asked.playing.play(model, preparer, table=table, generation=generation, say=reporter.say)
        for batch in score_examples(
            model,
            preparer,
            table=table,
            rewards=rewards,
            generation=generation,
            num_generations=options.num_generations,
            batch_size=options.batch_size,
            on_rollouts=RolloutWriter(rollouts, policy=policy).record if options.html else None,
            bad_rows=bad,
            verify_model=options.verify_model != "off",
            play=play,
        ):
            rows += batch
            stopwatch.cut(tokens=sum(row.num_tokens for row in rows), images=sum(row.num_images for row in rows))
            bar.advance(len(batch), status=f"{_status(rows)}  {stopwatch.whole()}  {peak_bytes() / 2**30:.1f} GiB")
    if not rows:
        raise UsageError(f"none of the {len(table)} rows could be scored; `triptych check` says why")
    return rows


def _preparer(processor: Any, model: Any, asked: AskedEvaluation, *, loader: ImageLoader) -> PromptPreparer:
    return PromptPreparer(
        processor,
        loader=loader,
        family=family_of(unwrap(model)),
        settings=asked.shared.settings,
        keep=2 * asked.own.batch_size,
    )


def _examples(asked: AskedEvaluation, row_check: RowCheck | None, *, given: Mapping[str, Any]) -> Examples:
    """The rows that are scored; those of ``--eval_data`` where it is given."""
    options, shared = asked.own, asked.shared
    files, roots = zip(*(shared.held_out_files or shared.train_files), strict=True)
    needs_prompt = asked.playing is None or asked.playing.factory is None
    examples = read_files(
        files, roots, shared.data, given=given, seen=asked.seen, row_check=row_check, needs_prompt=needs_prompt
    )
    examples = examples[: num_first(len(examples), options.limit)]
    columns = examples.checked.columns
    for column in (*(options.by or ()), *([options.position] if options.position else ())):
        if column not in columns:
            known = ", ".join(columns) or "none"
            raise UsageError(f"the data has no column {column!r} to slice by; its further columns are: {known}")
    if options.position:
        check_positions(examples, options.position)
    return examples


def _status(rows: Sequence[ScoredRow]) -> str:
    parts = []
    for name in rows[0].scores:
        scored = [row.scores[name] or 0.0 for row in rows if row.scores[name] is not None]
        parts.append(f"{name} {sum(scored) / len(scored):.3f}" if scored else f"{name} -")
    return "  ".join(parts)
