"""The speed and the result of a run: tokens and images per second, peak memory, first logs next to the last ones."""

import re
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from rich.table import Table
from rich.text import Text
from triptych_parser.printable import printable

__all__ = ["Pace", "Stopwatch", "closing_table", "peak_bytes"]

_HELD_OUT = re.compile(r"eval_(.*?)(reward|rewards/.+/mean)")
"""Rewards of an evaluation in TRL's log; rows of several names have the name before them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Contains the work of a period of wall time; the period of a training includes its checkpoints and evaluations."""

    seconds: float
    tokens: float
    """Prompt and completion tokens of all rows, on all ranks, as TRL's ``num_tokens`` counts."""
    images: float
    """Unique images of all prompts, on all ranks."""

    def __str__(self) -> str:
        parts = [f"{self.tokens / self.seconds:,.0f} tokens/s"]
        if self.images:
            parts.append(f"{self.images / self.seconds:,.1f} images/s")
        return "  ".join(parts)


class Stopwatch:
    """Cuts a run into paces from counters that only grow."""

    def __init__(self) -> None:
        self.start(tokens=0.0, images=0.0)

    def start(self, *, tokens: float, images: float) -> None:
        """Begin to measure here: what was counted before a resume is left out."""
        self.started = self.last = time.monotonic()
        self.first_counts = self.counts = (tokens, images)

    def cut(self, *, tokens: float, images: float) -> Pace:
        """Return the pace since the last cut."""
        now, before = time.monotonic(), self.counts
        pace = Pace(seconds=max(now - self.last, 1e-9), tokens=tokens - before[0], images=images - before[1])
        self.last, self.counts = now, (tokens, images)
        return pace

    def whole(self) -> Pace:
        """Return the pace from the start to the last cut."""
        tokens, images = (now - first for now, first in zip(self.counts, self.first_counts, strict=True))
        return Pace(seconds=max(self.last - self.started, 1e-9), tokens=tokens, images=images)


def peak_bytes() -> int:
    """Return the most memory so far: allocated on the accelerator if there is one, else resident in this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def closing_table(
    logged: Sequence[Mapping[str, float]], whole: Pace, *, title: str, held_out: Sequence[Mapping[str, float]] = ()
) -> Table:
    """Return the means of the first and the last tenth of a run's logs, its pace and its peak memory.

    Rows that were held out have lines of their own, from the first and the last evaluation.
    """
    tenth = max(1, len(logged) // 10)
    head, tail = logged[:tenth], logged[-tenth:]
    table = Table(title=title, caption=f"{whole}  peak memory {peak_bytes() / 2**30:.2f} GiB  {whole.seconds:,.0f} s")
    for heading in ("", _steps(head, "first"), _steps(tail, "last")):
        table.add_column(heading, justify="right" if heading else "left")
    for name, label in _rows(logged):
        table.add_row(Text(label), *(_mean([entry.get(name) for entry in part]) for part in (head, tail)))
    for name, label in _held_out_rows(held_out):
        known = [entry[name] for entry in held_out if name in entry]
        table.add_row(Text(label), _mean(known[:1]), _mean(known[-1:]))
    return table


def _held_out_rows(held_out: Sequence[Mapping[str, float]]) -> list[tuple[str, str]]:
    """The rewards of every evaluation; of one among several, with the name of its rows."""
    rows = []
    for name in dict.fromkeys(name for entry in held_out for name in entry):
        found = _HELD_OUT.fullmatch(name)
        if found is not None:
            which = f" ({printable(found[1].rstrip('_'), kept='')})" if found[1] else ""
            rows.append((name, f"held out{which}: {'reward' if found[2] == 'reward' else _shown(found[2])}"))
    return rows


def _rows(logged: Sequence[Mapping[str, float]]) -> list[tuple[str, str]]:
    names = list(dict.fromkeys(name for entry in logged for name in entry))
    rewards = [name for name in names if name.startswith("rewards/") and name.endswith("/mean")]
    has_rewards = "reward" in names
    rows = [] if has_rewards else [("loss", "loss"), ("num_tokens", "tokens so far")]
    rows += [("reward", "reward"), *((name, f"  {_shown(name)}") for name in rewards)]
    rows += [("completions/mean_length", "completion tokens"), ("completions/clipped_ratio", "cut at the limit")]
    rows += [("tools/call_frequency", "calls per rollout"), ("tools/failure_frequency", "  failed calls")]
    rows += [("tools/images", "images that arrived"), ("tools/unread_calls", "rollouts with a call not read")]
    rows += [("frac_reward_zero_std", "groups without variance"), ("entropy", "entropy"), ("kl", "KL divergence")]
    return [(name, label) for name, label in rows if name in names]


def _shown(name: str) -> str:
    """The reward of "rewards/NAME/mean" as a terminal may show it; a function may have any name."""
    return printable(name.removeprefix("rewards/").removesuffix("/mean"), kept="")


def _steps(part: Sequence[Mapping[str, float]], which: str) -> str:
    return f"{which} log" if len(part) == 1 else f"{which} {len(part)} logs"


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):,.3f}" if known else "-"
