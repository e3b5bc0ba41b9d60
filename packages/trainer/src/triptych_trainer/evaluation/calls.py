"""What `eval` says of the calls in rollouts with tools: how many, how many failed, and how rollouts ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from triptych_trainer.evaluation.scores import ScoredRow

__all__ = ["call_counts", "calls_in_words"]

ENDS = {"turns": "turns", "room": "room", "environment": "done", "length": "length"}
"""The words for what ended a rollout, and the ``finish`` that each of them means."""


def call_counts(rows: Sequence[ScoredRow]) -> dict[str, int] | None:
    """Return counts over all rollouts of a model, or None if it had no tools."""
    rollouts = [one for row in rows for one in row.trajectories]
    if not rollouts:
        return None
    calls = [call for one in rollouts for turn in one.turns for call in turn.calls]
    return {
        "rollouts": len(rollouts),
        "turns": sum(len(one.turns) for one in rollouts),
        "calls": sum(call.was_done for call in calls),
        "failed_calls": sum(call.failed for call in calls),
        "images": sum(len(one.images) for one in rollouts),
        **{f"ended_by_{name}": sum(one.finish == finish for one in rollouts) for name, finish in ENDS.items()},
    }


def calls_in_words(counts: Mapping[str, int]) -> str:
    """Return the counts as one line."""
    rollouts = counts["rollouts"]
    ends = ", ".join(f"{counts[f'ended_by_{name}']} by {name}" for name in ENDS)
    return (
        f"{counts['calls'] / rollouts:.2f} calls per rollout, {counts['failed_calls']} of {counts['calls']} failed; "
        f"{counts['turns'] / rollouts:.2f} turns and {counts['images'] / rollouts:.2f} images per rollout; "
        f"of {rollouts} rollouts ended {ends}"
    )
