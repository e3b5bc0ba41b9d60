"""``triptych rollout``: what a model says to the rows of a dataset, scored as a run would, before any run."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from triptych_data import Examples, ImageLoader
from triptych_data.fix import write_chosen
from triptych_data.limit import num_first
from triptych_data.option_parser import collected
from triptych_data.options import QUARANTINE, image_policy
from triptych_data.progress import Reporter
from triptych_data.seen_headers import SeenHeaders
from triptych_data.shared_options import SharedOptions, shared_options

from triptych_trainer.commands.engine import engine_to_sample
from triptych_trainer.commands.given_options import given_options
from triptych_trainer.commands.light_checks import check_rollout
from triptych_trainer.commands.loaded_rewards import named_weights, reward_functions
from triptych_trainer.commands.outcome import outcome
from triptych_trainer.commands.playing import Playing, playing_of
from triptych_trainer.commands.read_files import read_files
from triptych_trainer.commands.sampled import generation_config, model_to_sample
from triptych_trainer.errors import UsageError
from triptych_trainer.evaluation.outcomes import PromptOutcome, mixed, print_outcomes, totals_of
from triptych_trainer.evaluation.sampling import Sampling, sampled_groups, sampling_of_model
from triptych_trainer.grpo.batch import scored_groups
from triptych_trainer.grpo.rewarding import rewards_by_functions
from triptych_trainer.models.families import family_of, use_own_family
from triptych_trainer.models.load import chosen_processor
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.monitor.run_record import write_command
from triptych_trainer.options.default_rewards import named_rewards
from triptych_trainer.options.rollout_options import RolloutOptions, parser
from triptych_trainer.options.tool_options import PlayOptions
from triptych_trainer.prompts.bad_rows import BadRows
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.prompts.row_check import row_check_of
from triptych_trainer.report.build import build_report
from triptych_trainer.rewards.read import chosen_verdict
from triptych_trainer.rollouts.write import RolloutWriter
from triptych_trainer.trajectories.environments import rewards_of

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``triptych rollout``; return 0, or 2 after one line that says what is wrong."""
    words = list(sys.argv[1:] if argv is None else argv)
    return outcome("triptych rollout", lambda: _run(parser().parse_args(words), words))


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedRollouts:
    """Contains the parsed command line."""

    model: str
    command: Sequence[str]
    given: Mapping[str, Any]
    """The options that differ from their defaults."""
    shared: SharedOptions
    own: RolloutOptions
    out: Path
    seen: SeenHeaders
    rewards: Sequence[Callable[..., Any]]
    playing: Playing | None
    """The tools and environments that answer the model."""

    @property
    def quarantine(self) -> Path | None:
        """Where rows that are left out are listed."""
        return self.out / QUARANTINE if self.shared.data.on_bad == "skip" else None

    @property
    def has_environment(self) -> bool:
        """Whether an environment begins the rollouts, and perhaps scores them."""
        return self.playing is not None and self.playing.factory is not None


def _run(namespace: argparse.Namespace, words: Sequence[str]) -> int:
    from triptych_trainer.upstream.quiet import quiet_libraries

    check_rollout(namespace)
    shared, options, out = shared_options(namespace), collected(RolloutOptions, namespace), namespace.out
    play_options = collected(PlayOptions, namespace)
    playing = playing_of(play_options)
    has_environment = playing is not None and playing.factory is not None
    options.reward = named_rewards(options.reward, has_environment=has_environment)
    quiet_libraries()
    use_own_family(options.family)
    reporter = Reporter(quiet=options.quiet)
    asked = AskedRollouts(
        model=namespace.model,
        command=["triptych", "rollout", *words],
        given={
            **given_options(shared.data, shared.prompt, shared.loading, options, play_options),
            "model_name_or_path": namespace.model,
        },
        shared=shared,
        own=options,
        out=out,
        seen=SeenHeaders(policy=image_policy(shared.data)),
        rewards=reward_functions(options.reward, has_environment=has_environment),
        playing=playing,
    )
    chosen_verdict(asked.rewards, options.verdict)
    weights = named_weights(asked.rewards, options.reward_weights)
    processor = chosen_processor(asked.model, shared.loading, shared.prompt, option="--model")
    table = ExampleTable(_examples(asked, processor))
    outcomes = _sampled(asked, table, processor=processor, weights=weights, reporter=reporter)
    _conclude(outcomes, table, shared, options, out=out, reporter=reporter)
    return 0


def _examples(asked: AskedRollouts, processor: Any) -> Examples:
    options, shared = asked.own, asked.shared
    row_check = row_check_of(
        processor,
        shared.settings,
        rewards=dict(zip(options.reward, asked.rewards, strict=True)),
        environments=() if asked.playing is None else asked.playing.names,
    )
    files, roots = zip(*shared.train_files, strict=True)
    examples = read_files(
        files,
        roots,
        shared.data,
        given=asked.given,
        seen=asked.seen,
        row_check=row_check,
        quarantine=asked.quarantine,
        needs_prompt=not asked.has_environment,
    )
    return examples[: num_first(len(examples), options.limit)]


def _sampled(
    asked: AskedRollouts, table: ExampleTable, *, processor: Any, weights: Mapping[str, float], reporter: Reporter
) -> dict[int, PromptOutcome]:
    """Sample for all rows, score and record what was sampled, and return what each row's completions are worth."""
    options, shared, bad = asked.own, asked.shared, None
    if shared.data.on_bad == "skip":
        bad = BadRows(max_bad=shared.data.max_bad, num_rows=len(table), quarantine=asked.quarantine, say=reporter.say)
    policy = shared.settings.policy
    outcomes: dict[int, PromptOutcome] = {}
    torch.manual_seed(options.seed)
    with ImageLoader(policy=policy, seen=asked.seen) as loader, reporter.stage("rollout", len(table)) as bar:
        sampling, preparer = _sampling(asked, table, processor=processor, loader=loader, say=reporter.say)
        # A folder with files in it is refused: nothing is written before all that can be refused is there.
        write_command(asked.out, asked.command, asked.given, data=[Path(file) for file, _ in shared.train_files])
        writer = RolloutWriter(asked.out, weights=weights, policy=policy)
        play = sampling.play
        environments = None if play is None else play.environments
        rewards = [*asked.rewards, *([] if environments is None else rewards_of(environments))]
        for groups in sampled_groups(
            sampling,
            preparer,
            table=table,
            num_generations=options.num_generations,
            batch_size=options.batch_size,
            bad_rows=bad,
        ):
            scores = rewards_by_functions(rewards, groups, table=table)
            scored = scored_groups(groups, scores)
            writer.record(scored, step=0, mode="eval")
            for one in scored:
                outcomes[one.group.key] = PromptOutcome(rewards=one.rewards, totals=totals_of(one.rewards, weights))
            bar.advance(len(scored), status=f"{len(mixed(outcomes.items()))} mixed")
    return outcomes


def _sampling(
    asked: AskedRollouts, table: ExampleTable, *, processor: Any, loader: ImageLoader, say: Callable[[str], object]
) -> tuple[Sampling, PromptPreparer]:
    """What samples, and what prepares prompts for it."""
    options, shared = asked.own, asked.shared

    def preparer_for(model: torch.nn.Module) -> PromptPreparer:
        return PromptPreparer(
            processor,
            loader=loader,
            family=family_of(unwrap(model)),
            settings=shared.settings,
            keep=2 * options.batch_size,
        )

    if options.use_vllm:
        return engine_to_sample(asked.model, shared.loading, options, processor=processor, preparer_for=preparer_for)
    model = model_to_sample(asked.model, shared.loading, dtype=options.dtype, option="--model")
    preparer = preparer_for(model)
    generation = generation_config(processor, model.generation_config, options)
    play = None
    if asked.playing is not None:
        play = asked.playing.play(model, preparer, table=table, generation=generation, say=say)
    verifies = options.verify_model != "off"
    sampling = sampling_of_model(model, preparer, generation=generation, verify_model=verifies, play=play)
    return sampling, preparer


def _conclude(
    outcomes: dict[int, PromptOutcome],
    table: ExampleTable,
    shared: SharedOptions,
    options: RolloutOptions,
    *,
    out: Path,
    reporter: Reporter,
) -> None:
    if not outcomes:
        raise UsageError(f"none of the {len(table)} rows could be sampled for; `triptych check` says why")
    if not options.quiet:
        print_outcomes(reporter.console, list(outcomes.values()))
    if options.keep_mixed:
        assert isinstance(table.examples, Examples)
        chosen = mixed(outcomes.items())
        roots = [root for _, root in shared.train_files]
        target, format = Path(options.keep_mixed), shared.data.data_format
        write_chosen(table.examples, chosen, target, format=format, roots=roots, option="--keep_mixed")
        reporter.conclude(f"kept: {options.keep_mixed} ({len(chosen)} of {len(outcomes)} rows)")
    page = build_report(
        out,
        verdict=options.verdict,
        answer_frame=options.answer_frame,  # type: ignore[arg-type]
        completion_frame=options.completion_frame,  # type: ignore[arg-type]
    )
    reporter.conclude(f"what it said: {page}   rollouts: {out / 'rollouts'}")
