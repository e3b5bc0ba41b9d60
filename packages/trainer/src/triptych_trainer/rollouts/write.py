"""Write rollouts as they happen: one parquet part per generation step, complete or not there at all.

    writer = RolloutWriter(run_dir)
    trainer = MultiImageGRPOTrainer(..., on_rollouts=writer.record)

`record` takes what the trainer passes to `on_rollouts`; `write` takes `GroupRecord`s from anywhere else. Parts lie in
`run_dir/rollouts` under a name made of step, mode, rank and number, so that a resumed run overwrites what it repeats.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from triptych_data import Example, ImagePolicy, ImageSource, load_image
from triptych_data.addresses import is_data_address
from triptych_data.write_whole import write_whole

from triptych_trainer.prompts.image_info import image_infos
from triptych_trainer.rewards import ImageInfo, completion_text
from triptych_trainer.rewards.completion import opened_by
from triptych_trainer.rollouts.image_record import ImageRecord
from triptych_trainer.rollouts.parts import FOLDER
from triptych_trainer.rollouts.record import SCHEMA, GroupRecord, to_row
from triptych_trainer.rollouts.rollout import Rollout, RolloutGroup, ScoredGroup
from triptych_trainer.rollouts.turns import Trajectory, records_of, trajectory_of

COPY_PIXELS = 512
"""The longest side, in pixels, of the copies of images that have no file."""


class RolloutWriter:
    """Writes the rollouts of one rank of a run."""

    def __init__(
        self,
        run_dir: str | Path,
        *,
        rank: int = 0,
        weights: Mapping[str, float] | None = None,
        policy: ImagePolicy | None = None,
    ) -> None:
        """Write below `run_dir`.

        Args:
            rank: of this process; every rank writes its own parts.
            weights: of the rewards by name, for the totals; 1.0 for those not named.
            policy: what may be read, for the copies of images that are no files.
        """
        self.folder = Path(run_dir) / FOLDER
        self.rank = rank
        self.weights = dict(weights or {})
        self.policy = policy or ImagePolicy()
        self._number = 0
        self._last: tuple[int, str] | None = None
        self._copies: dict[Any, str] = {}

    def record(self, groups: Sequence[ScoredGroup], *, step: int, mode: str) -> Path | None:
        """Write the groups of one generation, as the trainer and an evaluation give them."""
        return self.write([self._record(scored, step=step, mode=mode) for scored in groups])

    def write(self, groups: Sequence[GroupRecord]) -> Path | None:
        """Write groups of one step and mode as one part and return its path, or None if there are none.

        Raises:
            OSError: the disk is full or not writable; no half-written part is left under its name.
        """
        if not groups:
            return None
        kinds = {(group.step, group.mode) for group in groups}
        if len(kinds) != 1:
            raise ValueError(f"expected groups of one step and mode, got {sorted(kinds)}; write them one by one")
        (kind,) = kinds
        self._number = self._number + 1 if kind == self._last else 0
        self._last = kind
        step, mode = kind
        path = self.folder / f"step-{step:08d}-{mode}-rank{self.rank:03d}-{self._number:04d}.parquet"
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([to_row(group) for group in groups], schema=SCHEMA), buffer)
        write_whole(path, buffer.getvalue())
        return path

    def _record(self, scored: ScoredGroup, *, step: int, mode: str) -> GroupRecord:
        example, rollouts = scored.group.prompt.example, scored.group.rollouts
        pieces = zip(example.prompt.prompt.turns, example.prompt.shown(), strict=True)
        return GroupRecord(
            step=step,
            mode=mode,
            key=example.key,
            sample_id=example.id,
            source=example.source,
            answer=example.answer,
            prompt=[(turn.role, parts) for turn, parts in pieces],
            images=self._images(example, image_infos(scored.group.prompt)),
            opened=opened_by(scored.group.prompt.ending),
            completions=[completion_text(rollout.messages) for rollout in rollouts],
            messages=[messages_json(rollout, is_plain=scored.group.prompt.text is not None) for rollout in rollouts],
            completion_ids=[rollout.ids for rollout in rollouts],
            num_tokens=[rollout.num_trained for rollout in rollouts],
            rewards=scored.rewards,
            weights={name: weight for name, weight in self.weights.items() if name in scored.rewards},
            totals=self._totals(scored.rewards, len(rollouts)),
            advantages=scored.advantages,
            trajectories=self._trajectories(scored.group),
        )

    def _trajectories(self, group: RolloutGroup) -> list[Trajectory]:
        """The turns of a group's rollouts; empty in a run without tools."""
        if any(one.calls is None for one in group.rollouts):
            return []
        return [
            trajectory_of(one, group.prompt, images=records_of(one, copy=lambda own: self._copy(ImageSource(ref=own))))
            for one in group.rollouts
        ]

    def _totals(self, rewards: Mapping[str, Sequence[float | None]], size: int) -> list[float | None]:
        totals: list[float | None] = []
        for k in range(size):
            parts = [(self.weights.get(name, 1.0), scores[k]) for name, scores in rewards.items()]
            scored = [weight * score for weight, score in parts if score is not None and score == score]
            totals.append(sum(scored) if scored else None)
        return totals

    def _images(self, example: Example, infos: Sequence[ImageInfo]) -> list[ImageRecord]:
        return [
            ImageRecord(
                name=info.name,
                annotation=info.annotation,
                ref=image_ref(source),
                thumbnail=None if is_file(source) else self._copy(source),
                width=info.width,
                height=info.height,
                source_width=info.source_width,
                source_height=info.source_height,
            )
            for source, info in zip(example.images, infos, strict=True)
        ]

    def _copy(self, source: ImageSource) -> str:
        """Keep a small PNG of an image that is no file, once per run, and return its path below the folder."""
        if source.key not in self._copies:
            picture = load_image(source, policy=self.policy)
            picture.thumbnail((COPY_PIXELS, COPY_PIXELS))
            buffer = io.BytesIO()
            picture.save(buffer, format="PNG")
            name = f"images/{hashlib.sha256(buffer.getvalue()).hexdigest()[:24]}.png"
            if not (self.folder / name).exists():
                write_whole(self.folder / name, buffer.getvalue())
            self._copies[source.key] = name
        return self._copies[source.key]


def messages_json(rollout: Rollout, *, is_plain: bool) -> str | None:
    """Return the completion of a rollout as rewards get it, images without their pixels, or None for one message of
    plain text.

    After a prompt of plain text, rewards get a completion as text.
    """
    said = completion_text(rollout.messages)
    if is_plain:
        return json.dumps(said, ensure_ascii=False)
    messages = [dict(message) for message in rollout.messages]
    if messages == [{"role": "assistant", "content": said}]:
        return None
    for message in messages:
        if isinstance(message.get("content"), list):
            parts = message["content"]
            message["content"] = [{"type": "image"} if part["type"] == "image" else part for part in parts]
    return json.dumps(messages, ensure_ascii=False, default=str)


def is_file(source: ImageSource) -> bool:
    """Return whether the image is a file that a report can read later."""
    return isinstance(source.ref, str) and not is_data_address(source.ref) and "://" not in source.ref


def image_ref(source: ImageSource) -> str:
    """Return a file's absolute path, or a short description of another kind of image."""
    if not is_file(source):
        return str(source)
    assert isinstance(source.ref, str)
    return str((Path(source.root or ".") / source.ref).absolute())
