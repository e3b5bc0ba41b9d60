"""``triptych rollout``: what a model says to the rows of a dataset, scored as a run would, before any run."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from triptych_data import Examples, ImageLoader
from triptych_data.fix import refuse_overwriting, write_chosen
from triptych_data.option_parser import collected
from triptych_data.options import QUARANTINE, image_policy
from triptych_data.seen_headers import SeenHeaders
from triptych_data.shared_options import SharedOptions, shared_options

from triptych_trainer.commands.engine import engine_to_sample
from triptych_trainer.commands.outcome import outcome
from triptych_trainer.commands.read_files import read_files
from triptych_trainer.commands.sampled import generation_config, model_to_sample, named_weights, reward_functions
from triptych_trainer.errors import UsageError
from triptych_trainer.evaluation.outcomes import Outcome, mixed, print_outcomes, totals_of
from triptych_trainer.evaluation.sampling import Sampling, sampled_groups, sampling_of_model
from triptych_trainer.grpo.batch import scored_groups
from triptych_trainer.grpo.rewarding import rewards_by_functions
from triptych_trainer.models.families import family_of, use_own_family
from triptych_trainer.models.load import load_processor
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.monitor.progress import Reporter
from triptych_trainer.monitor.run_record import write_command
from triptych_trainer.options.rollout_options import RolloutOptions, parser
from triptych_trainer.prompts.bad_rows import BadRows
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.prompts.row_check import row_check_of
from triptych_trainer.report.build import build_report
from triptych_trainer.rewards.read import chosen_verdict
from triptych_trainer.rollouts.write import RolloutWriter

__all__ = ["check_new_folder", "given_options", "keep_mixed", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``triptych rollout``; return 0, or 2 after one line that says what is wrong."""
    words = list(sys.argv[1:] if argv is None else argv)
    return outcome("triptych rollout", lambda: _run(parser().parse_args(words), words))


def _run(namespace: argparse.Namespace, words: Sequence[str]) -> int:
    from triptych_trainer.upstream.quiet import quiet_libraries

    shared, options, out = shared_options(namespace), collected(RolloutOptions, namespace), namespace.out
    _check(shared, options, out)
    quiet_libraries()
    use_own_family(options.family)
    reporter = Reporter(quiet=options.quiet)
    rewards = reward_functions(options.reward)
    chosen_verdict(rewards, options.verdict)
    weights = named_weights(rewards, options.reward_weights)
    processor = load_processor(
        namespace.model,
        revision=shared.loading.model_revision,
        trust_remote_code=shared.loading.trust_remote_code,
        min_pixels=shared.prompt.min_pixels,
        max_pixels=shared.prompt.max_pixels,
        option="--model",
    )
    seen = SeenHeaders(policy=image_policy(shared.data))
    row_check = row_check_of(processor, shared.settings, rewards=dict(zip(options.reward, rewards, strict=True)))
    files, roots = zip(*shared.train_files, strict=True)
    quarantine = out / QUARANTINE if shared.data.on_bad == "skip" else None
    examples = read_files(files, roots, shared.data, seen=seen, row_check=row_check, quarantine=quarantine)
    table = ExampleTable(examples[: options.limit] if options.limit else examples)
    written = {**given_options(shared.data, shared.prompt, options), "model_name_or_path": namespace.model}
    write_command(out, ["triptych", "rollout", *words], written, data=[Path(file) for file in files])
    bad = None
    if shared.data.on_bad == "skip":
        bad = BadRows(max_bad=shared.data.max_bad, num_rows=len(table), quarantine=quarantine, say=reporter.say)
    writer = RolloutWriter(out, weights=weights, policy=shared.settings.policy)
    outcomes: dict[int, Outcome] = {}
    torch.manual_seed(options.seed)
    with (
        ImageLoader(policy=shared.settings.policy, seen=seen) as loader,
        reporter.stage("rollout", len(table)) as bar,
    ):
        sampling, preparer = _sampling(namespace.model, shared, options, processor=processor, loader=loader)
        for groups in sampled_groups(
            sampling,
            preparer,
            table=table,
            num_generations=options.num_generations,
            batch_size=options.batch_size,
            bad_rows=bad,
        ):
            scored = scored_groups(groups, rewards_by_functions(rewards, groups, table=table))
            writer.record(scored, step=0, mode="eval")
            for one in scored:
                outcomes[one.group.key] = Outcome(rewards=one.rewards, totals=totals_of(one.rewards, weights))
            bar.advance(len(scored), status=f"{len(mixed(outcomes.items()))} mixed")
    _conclude(outcomes, table, shared, options, out=out, reporter=reporter)
    return 0


def _check(shared: SharedOptions, options: RolloutOptions, out: Path) -> None:
    check_new_folder(out)
    if shared.data.eval_data:
        raise UsageError("--eval_data: completions are sampled for the rows of --data; name the files there")
    if not options.temperature > 0:
        raise UsageError(
            f"--temperature expects a number above 0, got {options.temperature:g}: greedy completions of a prompt are "
            "all equal; `triptych eval` decodes greedily"
        )
    if options.keep_mixed:
        files = [file for file, _ in shared.train_files]
        refuse_overwriting(Path(options.keep_mixed), files, option="--keep_mixed")


def check_new_folder(out: Path) -> None:
    """Check that ``--out`` names no folder with files in it; raises UsageError."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: expected a new folder, got one that contains files; name another")


def given_options(*groups: Any) -> dict[str, Any]:
    """The options of a command that differ from their defaults, as a ``config.yaml`` contains them."""
    given = {}
    for group in groups:
        defaults = type(group)()
        for option in fields(group):
            value = getattr(group, option.name)
            if value != getattr(defaults, option.name):
                given[option.name] = value
    return given


def _sampling(
    path: str, shared: SharedOptions, options: RolloutOptions, *, processor: Any, loader: ImageLoader
) -> tuple[Sampling, PromptPreparer]:
    """What samples, and what prepares prompts for it."""

    def preparer_for(model: torch.nn.Module) -> PromptPreparer:
        return PromptPreparer(
            processor,
            loader=loader,
            family=family_of(unwrap(model)),
            settings=shared.settings,
            keep=2 * options.batch_size,
        )

    if options.use_vllm:
        return engine_to_sample(path, shared.loading, options, processor=processor, preparer_for=preparer_for)
    model = model_to_sample(path, shared.loading, dtype=options.dtype, option="--model")
    preparer = preparer_for(model)
    generation = generation_config(processor, model.generation_config, options)
    sampling = sampling_of_model(model, preparer, generation=generation, verify_model=options.verify_model != "off")
    return sampling, preparer


def _conclude(
    outcomes: dict[int, Outcome],
    table: ExampleTable,
    shared: SharedOptions,
    options: RolloutOptions,
    *,
    out: Path,
    reporter: Reporter,
) -> None:
    if not outcomes:
        raise UsageError(f"none of the {len(table)} rows could be sampled for; `triptych check --decode` says why")
    if not options.quiet:
        print_outcomes(reporter.console, list(outcomes.values()))
    if options.keep_mixed:
        assert isinstance(table.examples, Examples)
        chosen = mixed(outcomes.items())
        roots = [root for _, root in shared.train_files]
        keep_mixed(options.keep_mixed, table.examples, chosen, format=shared.data.data_format, roots=roots)
        reporter.conclude(f"kept: {options.keep_mixed} ({len(chosen)} of {len(outcomes)} rows)")
    page = build_report(
        out,
        verdict=options.verdict,
        answer_frame=options.answer_frame,  # type: ignore[arg-type]
        completion_frame=options.completion_frame,  # type: ignore[arg-type]
    )
    reporter.conclude(f"what it said: {page}   rollouts: {out / 'rollouts'}")


def keep_mixed(
    target: str, examples: Examples, chosen: Sequence[int], *, format: str, roots: Sequence[Path | None]
) -> None:
    """Write the rows from which something can be learned, as they are in their files."""
    write_chosen(examples, chosen, Path(target), format=format, roots=roots, option="--keep_mixed")
