"""The scores of sampled completions as one table, and the prompts from which something could be learned."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text
from triptych_parser.printable import printable

from triptych_trainer.evaluation.scores import mean_interval
from triptych_trainer.rollouts.read import is_flat, mean

__all__ = ["PromptOutcome", "mixed", "print_outcomes", "totals_of"]

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptOutcome:
    """Contains the scores of the completions of one prompt."""

    rewards: Mapping[str, Sequence[float | None]]
    totals: Sequence[float | None]


def totals_of(rewards: Mapping[str, Sequence[float | None]], weights: Mapping[str, float]) -> list[float | None]:
    """Return the weighted sum of each completion's scores, with 1.0 for a reward without a weight, or None if no reward
    applied.
    """
    totals: list[float | None] = []
    for scores in zip(*rewards.values(), strict=True):
        parts = [
            weights.get(name, 1.0) * score for name, score in zip(rewards, scores, strict=True) if score is not None
        ]
        totals.append(sum(parts) if parts else None)
    return totals


def mixed(outcomes: Iterable[tuple[Key, PromptOutcome]]) -> list[Key]:
    """Return the keys of the prompts whose completions have different scores, in order, each key once."""
    totals: dict[Key, list[float | None]] = defaultdict(list)
    for key, outcome in outcomes:
        totals[key] += outcome.totals
    return [key for key, found in totals.items() if not is_flat(found)]


def print_outcomes(console: Console, found: Sequence[PromptOutcome], before: Sequence[PromptOutcome] = ()) -> None:
    """Print the mean of every reward over prompts with its interval, and what it was ``before``."""
    table = Table("reward", title_justify="left")
    for name in ("prompts", "mean and 95 % interval", *(["recorded"] if before else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for name in found[0].rewards if found else ():
        values = _means(found, name)
        shown = mean_interval(values)
        row = [str(len(values)), "-" if shown is None else f"{shown.mean:.3f}"]
        if shown is not None and shown.low is not None:
            row[1] += f" ({shown.low:.2f} to {shown.high:.2f})"
        recorded = mean_interval(_means(before, name))
        table.add_row(
            Text(printable(name, kept="")),
            *row,
            *(["-" if recorded is None else f"{recorded.mean:.3f}"] if before else []),
        )
    wide = console if console.is_terminal else Console(file=console.file, width=110)  # a file has no width of its own
    wide.print(table)
    flat = sum(is_flat(outcome.totals) for outcome in found)
    wide.print(
        f"groups without variance: {flat} of {len(found)}, from which GRPO learns nothing"
        + (f" (as recorded: {sum(is_flat(outcome.totals) for outcome in before)})" if before else "")
    )


def _means(outcomes: Sequence[PromptOutcome], name: str) -> list[float]:
    """The mean score of each prompt by one reward, where it applied."""
    means = (mean(outcome.rewards.get(name, ())) for outcome in outcomes)
    return [value for value in means if value is not None]
