"""The page of ``triptych eval``: means with intervals, and the rows that they come from, with their images in place."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych_data.pages import rendered_page
from triptych_data.write_whole import write_whole

from triptych_trainer.evaluation.bars import Differences, Slices, change_in_words, table_html
from triptych_trainer.evaluation.calls import call_counts, calls_in_words
from triptych_trainer.evaluation.scores import ScoredRow, slicings
from triptych_trainer.report.build import MAX_GROUPS, MAX_IMAGE_BYTES
from triptych_trainer.report.payload import group_json, other_json
from triptych_trainer.report.thumbnails import Thumbnails
from triptych_trainer.rewards.frames import Frame
from triptych_trainer.rollouts.read import Visit, read_groups, read_visits
from triptych_trainer.rollouts.record import GroupRecord

__all__ = ["evaluation_page"]

Found = Mapping[str, tuple[Visit, GroupRecord]]


def evaluation_page(
    path: Path,
    scored: Mapping[str, Sequence[ScoredRow]],
    *,
    rollouts: Mapping[str, Path],
    sliced: Mapping[str, Slices],
    paired: Differences | None,
    by: Sequence[str],
    position: str | None,
    names: Mapping[str, str],
    data: str,
    verdict: str | None,
    max_rows: int = MAX_GROUPS,
    max_image_bytes: int = MAX_IMAGE_BYTES,
    answer_frame: Frame = "seen",
    completion_frame: Frame = "seen",
) -> None:
    """Write one self-contained page; where there are more than ``max_rows``, those that went wrong are shown.

    Args:
        rollouts: for each model, ``model`` and perhaps ``base``, the folder that ``RolloutWriter`` recorded into.
        names: the model folders or hub ids of the same keys.
        verdict: the reward that says right or wrong; without it rows are ordered by the first one.
    """
    rewards = list(scored["model"][0].scores)
    main = verdict or rewards[0]
    thumbnails = Thumbnails(max_bytes=max_image_bytes)
    chosen = _worst_first(scored, main)[:max_rows]
    places = _places(scored["model"], by=by, position=position)
    groups = _groups(scored, chosen, rollouts, thumbnails, reward=main, frames=(answer_frame, completion_frame))
    groups = [{**group, "slices": places[row.key]} for group, row in zip(groups, chosen, strict=True)]
    said: dict[str, Any] = {"names": names, "rewards": rewards, "verdict": verdict, "score": main}
    payload = {**said, "groups": groups, "images": thumbnails.uris}
    pieces = rendered_page(
        "triptych_trainer.evaluation",
        "evaluation",
        scripts=["strips", "cards"],
        title=Path(names["model"]).name or names["model"],
        facts=_facts(scored, names=names, data=data, shown=len(chosen), left_out=thumbnails.left_out),
        in_words=_in_words(paired, main),
        tables=[table_html(name, sliced, paired, num_rows=len(scored["model"])) for name in rewards],
        data=payload,
    )
    write_whole(path, "".join(pieces).encode("utf-8"))


def _groups(
    scored: Mapping[str, Sequence[ScoredRow]],
    chosen: Sequence[ScoredRow],
    rollouts: Mapping[str, Path],
    thumbnails: Thumbnails,
    *,
    reward: str,
    frames: tuple[Frame, Frame],
) -> list[dict[str, Any]]:
    """The rows that are shown, each next to the base's; ``frames`` are those of boxes in answers and in completions."""
    found = {run: _found(folder, chosen) for run, folder in rollouts.items()}
    base = _base_scores(scored, reward)
    groups = []
    for row in chosen:
        visit, group = found["model"][row.key]
        shown = group_json(
            group,
            visit,
            history=None,
            thumbnails=thumbnails,
            run_dir=rollouts["model"],
            answer_frame=frames[0],
            completion_frame=frames[1],
        )
        other = found.get("base", {}).get(row.key)
        if other is not None:
            shown["other"] = other_json(
                other[1], other[0], thumbnails=thumbnails, run_dir=rollouts["base"], completion_frame=frames[1]
            )
        groups.append({**shown, "score": row.scores[reward], "baseScore": base.get(row.key)})
    return groups


def _worst_first(scored: Mapping[str, Sequence[ScoredRow]], reward: str) -> list[ScoredRow]:
    """Rows that became worse than the base's, then wrong ones, then those that became better, then the rest."""
    base = _base_scores(scored, reward)

    def rank(row: ScoredRow) -> tuple[float, float]:
        score, before = row.scores[reward], base.get(row.key)
        if score is None:
            return 3.0, 0.0
        if before is not None and score != before:
            return (0.0, score - before) if score < before else (2.0 if score > 0 else 1.0, before - score)
        return (1.0, score) if score < 0.5 else (3.0, score)

    return sorted(scored["model"], key=rank)


def _base_scores(scored: Mapping[str, Sequence[ScoredRow]], reward: str) -> dict[str, float | None]:
    return {row.key: row.scores[reward] for row in scored.get("base", ())}


def _found(folder: Path, rows: Sequence[ScoredRow]) -> Found:
    wanted = {row.key for row in rows}
    visits = [visit for visit in read_visits(folder) if visit.key in wanted]
    return {visit.key: (visit, group) for visit, group in zip(visits, read_groups(visits), strict=True)}


def _places(rows: Sequence[ScoredRow], *, by: Sequence[str], position: str | None) -> dict[str, dict[str, str]]:
    """For each row, its slice of every slicing."""
    found: dict[str, dict[str, str]] = {row.key: {} for row in rows}
    for slicing, slices in slicings(rows, by=by, position=position).items():
        for key, members in slices.items():
            for row in members:
                found[row.key][slicing] = key
    return found


def _facts(
    scored: Mapping[str, Sequence[ScoredRow]], *, names: Mapping[str, str], data: str, shown: int, left_out: int
) -> list[tuple[str, Any]]:
    total = len(scored["model"])
    facts: list[tuple[str, Any]] = [("data", Path(data).name), *((run, name) for run, name in names.items())]
    facts.append(("rows", total if shown == total else f"{total}, {shown} shown below"))
    facts.append(("completions of each row", len(scored["model"][0].completions)))
    called = {run: counts for run, rows in scored.items() if (counts := call_counts(rows)) is not None}
    facts += [(f"calls of {run}", calls_in_words(counts)) for run, counts in called.items()]
    return [*facts, ("images not embedded", left_out)] if left_out else facts


def _in_words(paired: Differences | None, reward: str) -> dict[str, str] | None:
    change = paired["all"]["all"][reward] if paired is not None else None
    if change is None:
        return None
    kind = "unclear" if not change.is_clear else "up" if change.mean > 0 else "down"
    return {"kind": kind, "reward": reward, "text": change_in_words(change)}
