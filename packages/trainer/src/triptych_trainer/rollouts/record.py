"""The record of one prompt and its G completions, and its form as a row of a parquet part."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from triptych_trainer.rollouts.image_record import IMAGE, ImageRecord, image_from_row, image_to_row
from triptych_trainer.rollouts.turns import TRAJECTORY, Trajectory, trajectory_from_row, trajectory_to_row

Piece = str | int
"""A part of the prompt's text, or the index (from 0) of the image at that place."""

_SCORES = pa.list_(pa.float64())
_COUNTS = pa.list_(pa.int32())
SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("mode", pa.string()),
        ("key", pa.string()),
        ("sample_id", pa.string()),
        ("source", pa.string()),
        ("answer", pa.string()),
        ("prompt", pa.string()),
        ("images", pa.list_(IMAGE)),
        ("opened", pa.string()),
        ("completions", pa.list_(pa.string())),
        ("messages", pa.list_(pa.string())),
        ("completion_ids", pa.list_(_COUNTS)),
        ("num_tokens", pa.list_(pa.int32())),
        ("rewards", pa.list_(pa.struct([("name", pa.string()), ("scores", _SCORES), ("weight", pa.float64())]))),
        ("totals", _SCORES),
        ("advantages", _SCORES),
        ("num_calls", _COUNTS),
        ("num_failed_calls", _COUNTS),
        ("num_turn_images", _COUNTS),
        ("num_all_tokens", _COUNTS),
        ("trajectories", pa.list_(TRAJECTORY)),
    ]
)
COUNTS = ("num_calls", "num_failed_calls", "num_turn_images", "num_all_tokens")
"""Of each rollout with tools: its calls, those that failed, the images that arrived, and all tokens after the prompt.
"""
SCALARS = ("step", "mode", "key", "sample_id", "num_tokens", "rewards", "totals", "advantages", *COUNTS)
"""The columns that curves and sorting need: small, and read for every group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRecord:
    """Contains one prompt and its G completions at one step. Scores are None where a reward did not apply."""

    step: int
    mode: str = "train"
    """`train` or `eval`."""
    key: str
    """The key of the prompt's row, which no other row has (``Example.key``)."""
    sample_id: str
    source: str = ""
    answer: str | None = None
    prompt: Sequence[tuple[str, Sequence[Piece]]]
    """Turns as (role, pieces)."""
    images: Sequence[ImageRecord] = ()
    opened: str = ""
    """The beginning of every completion that the end of the prompt contains, such as `<think>`."""
    completions: Sequence[str]
    messages: Sequence[str | None] = ()
    """Each completion as rewards got it, as JSON; None for one message of the assistant with the completion's text."""
    completion_ids: Sequence[Sequence[int]] = ()
    """The tokens of each completion; empty in files of older versions."""
    num_tokens: Sequence[int]
    rewards: Mapping[str, Sequence[float | None]]
    """G scores for each reward, unweighted."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of the rewards by name, for the totals; 1.0 for those not named."""
    totals: Sequence[float | None] | None = None
    """G weighted sums; None if they are the plain sums of `rewards`."""
    advantages: Sequence[float | None]
    trajectories: Sequence[Trajectory] = ()
    """The turns of each completion of a run with tools; empty for other runs."""

    def __post_init__(self) -> None:
        """Check that every list has one entry per completion; raises ValueError."""
        sizes = {"num_tokens": len(self.num_tokens), "advantages": len(self.advantages)}
        sizes |= {f"rewards[{name!r}]": len(scores) for name, scores in self.rewards.items()}
        sizes |= {} if self.totals is None else {"totals": len(self.totals)}
        for name in ("trajectories", "messages", "completion_ids"):
            sizes |= {name: len(found)} if (found := getattr(self, name)) else {}
        wrong = {name: size for name, size in sizes.items() if size != len(self.completions)}
        if wrong:
            raise ValueError(
                f"sample {self.sample_id} at step {self.step}: expected {len(self.completions)} values, one per "
                f"completion, in each list, got {wrong}"
            )


def to_row(group: GroupRecord) -> dict[str, Any]:
    """Return the group as a row of `SCHEMA`."""
    totals = sum_of_rewards(group.rewards, len(group.completions)) if group.totals is None else group.totals
    return {
        "step": group.step,
        "mode": group.mode,
        "key": group.key,
        "sample_id": group.sample_id,
        "source": group.source,
        "answer": group.answer,
        "prompt": json.dumps([[role, list(pieces)] for role, pieces in group.prompt], ensure_ascii=False),
        "images": [image_to_row(image) for image in group.images],
        "opened": group.opened,
        "completions": list(group.completions),
        "messages": list(group.messages),
        "completion_ids": [list(ids) for ids in group.completion_ids],
        "num_tokens": list(group.num_tokens),
        "rewards": [
            {"name": name, "scores": _finite(scores), "weight": group.weights.get(name, 1.0)}
            for name, scores in group.rewards.items()
        ],
        "totals": _finite(totals),
        "advantages": _finite(group.advantages),
        **_counts(group.trajectories),
        "trajectories": [trajectory_to_row(trajectory) for trajectory in group.trajectories],
    }


def from_row(row: Mapping[str, Any]) -> GroupRecord:
    """Return the group of a full row of `SCHEMA`."""
    return GroupRecord(
        step=row["step"],
        mode=row["mode"],
        key=row["key"],
        sample_id=row["sample_id"],
        source=row["source"],
        answer=row["answer"],
        prompt=[(role, pieces) for role, pieces in json.loads(row["prompt"])],
        images=[image_from_row(image) for image in row["images"]],
        opened=row.get("opened") or "",  # parts of older runs lack it
        completions=row["completions"],
        messages=row.get("messages") or (),
        completion_ids=row.get("completion_ids") or (),
        num_tokens=row["num_tokens"],
        rewards={reward["name"]: reward["scores"] for reward in row["rewards"]},
        weights={one["name"]: one["weight"] for one in row["rewards"] if one.get("weight") not in (None, 1.0)},
        totals=row["totals"],
        advantages=row["advantages"],
        trajectories=tuple(trajectory_from_row(trajectory) for trajectory in row.get("trajectories") or ()),
    )


def sum_of_rewards(rewards: Mapping[str, Sequence[float | None]], num_completions: int) -> list[float | None]:
    """Return the plain sum for each completion, None where no reward applied."""
    sums: list[float | None] = []
    for k in range(num_completions):
        scores = [score for score in _finite([scores[k] for scores in rewards.values()]) if score is not None]
        sums.append(sum(scores) if scores else None)
    return sums


def _counts(trajectories: Sequence[Trajectory]) -> dict[str, list[int]]:
    calls = [[call for turn in one.turns for call in turn.calls] for one in trajectories]
    return {
        "num_calls": [sum(call.was_done for call in own) for own in calls],
        "num_failed_calls": [sum(call.failed for call in own) for own in calls],
        "num_turn_images": [len(one.images) for one in trajectories],
        "num_all_tokens": [one.num_tokens for one in trajectories],
    }


def _finite(scores: Sequence[float | None]) -> list[float | None]:
    """TRL marks "not scored" by nan; a file contains null instead."""
    return [None if score is None or not math.isfinite(score) else float(score) for score in scores]
