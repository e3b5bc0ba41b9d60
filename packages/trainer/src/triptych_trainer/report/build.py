"""Build `report.html` from the rollouts of a run: one file, no network, safe to open while the run goes on."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from triptych_data.pages import rendered_page
from triptych_data.write_whole import write_whole

from triptych_trainer.report.curves import Panel, Series, panel_html, series_of
from triptych_trainer.report.mismatch import mismatch_curves
from triptych_trainer.report.payload import group_json, other_json
from triptych_trainer.report.run_facts import made_of, page_of, run_names, run_record, warnings_of
from triptych_trainer.report.summary import (
    all_token_curves,
    call_curves,
    choose,
    flat_curves,
    histories,
    length_curves,
    reward_curves,
    total_curves,
    turn_image_curves,
)
from triptych_trainer.report.thumbnails import Thumbnails
from triptych_trainer.rewards.frames import Frame
from triptych_trainer.rewards.verdict import verdict_of
from triptych_trainer.rollouts.parts import ReportError
from triptych_trainer.rollouts.read import Visit, read_groups, read_visits

MAX_GROUPS = 2_000
MAX_IMAGE_BYTES = 24 * 2**20


def build_report(
    run_dir: str | Path,
    out: str | Path | None = None,
    *,
    compare: str | Path | None = None,
    max_groups: int = MAX_GROUPS,
    max_image_bytes: int = MAX_IMAGE_BYTES,
    verdict: str | None = None,
    answer_frame: Frame = "seen",
    completion_frame: Frame = "seen",
) -> Path:
    """Write the page and return its path.

    Args:
        run_dir: output folder of a run, with `rollouts` in it.
        out: where to write; by default `run_dir/report.html`, with a second run `run_dir/compared.html`.
        compare: a second run, drawn next to the first and matched by sample id.
        max_groups: groups shown in full; curves always use all of them.
        max_image_bytes: of embedded thumbnails.
        verdict: the reward that says right or wrong; by default what the run was told, else `accuracy`, else that of
            an environment or of a tool's only reward function, of which more than 0 is right.
        answer_frame: coordinates of boxes in answers (see `triptych_trainer.rewards.to_seen`).
        completion_frame: coordinates of boxes in completions.

    Raises:
        ReportError: a folder contains no rollouts, or a part cannot be read; or there is no reward called ``verdict``.
    """
    run_dir = Path(run_dir)
    out = page_of(run_dir, compare) if out is None else Path(out)
    visits = read_visits(run_dir)
    others = read_visits(compare) if compare is not None else []
    names = run_names(run_dir, None if compare is None else Path(compare))
    thumbnails = Thumbnails(max_bytes=max_image_bytes)
    groups = _groups(visits, thumbnails, run_dir, limit=max_groups, frames=(answer_frame, completion_frame))
    other_dir = run_dir if compare is None else Path(compare)
    _add_others(groups, others, thumbnails=thumbnails, run_dir=other_dir, completion_frame=completion_frame)
    rewards = list(dict.fromkeys(name for visit in visits for name in visit.rewards))
    says = _verdict(run_dir, rewards, verdict)
    gained = [] if says is not None else _gained(run_dir, rewards, groups)
    charts = panels(visits, others, names=names)
    charts += mismatch_panels(run_dir, None if compare is None else Path(compare), names=names)
    payload = {
        "run": names[0],
        "other": names[1] if compare is not None else None,
        "rewards": rewards,
        "verdict": says,
        "gained": gained,
        "curves": {panel.key: [_curve_json(series) for series in panel.series] for panel in charts},
        "groups": groups,
        "images": thumbnails.uris,
    }
    shown = facts(visits, shown=len(groups), left_out=thumbnails.left_out)
    page = _page(names=names, payload=payload, facts=shown, panels=charts, record=run_record(run_dir))
    write_whole(out, page.encode("utf-8"))
    return out


def _groups(
    visits: Sequence[Visit], thumbnails: Thumbnails, run_dir: Path, *, limit: int, frames: tuple[Frame, Frame]
) -> list[dict[str, Any]]:
    """The groups that are shown in full; ``frames`` are the coordinates of boxes in answers and in completions."""
    chosen, known = choose(visits, limit=limit), histories(visits)
    return [
        group_json(
            group,
            visit,
            history=known.get(visit.key) if visit.mode == "train" else None,
            thumbnails=thumbnails,
            run_dir=run_dir,
            answer_frame=frames[0],
            completion_frame=frames[1],
        )
        for visit, group in zip(chosen, read_groups(chosen), strict=True)
    ]


def panels(visits: Sequence[Visit], others: Sequence[Visit], *, names: tuple[str, str | None]) -> list[Panel]:
    """Return the panels of curves of the run and of the compared run; three more if the run has tools.

    A panel without a value is left out: no completion was scored.
    """
    kinds = [
        ("total", "Total reward", "Mean over completions; the band is one standard deviation.", total_curves),
        ("rewards", "Each reward", "Mean over completions, before weights.", reward_curves),
        ("length", "Completion length", "Mean in tokens; the band is one standard deviation.", length_curves),
        ("flat", "Groups without variance", "Share of prompts whose completions all scored the same.", flat_curves),
    ]
    if any(visit.counts.get("num_calls") for visit in [*visits, *others]):
        kinds += [
            ("calls", "Calls of tools", "Mean per rollout: all calls, and those that failed.", call_curves),
            ("turn-images", "Images that arrived", "Mean per rollout.", turn_image_curves),
            ("all-tokens", "All tokens", "Mean per rollout, with the tokens of results and images.", all_token_curves),
        ]
    found = [
        Panel(key=key, title=title, explanation=text, series=series_of(curves(visits), curves(others), names=names))
        for key, title, text, curves in kinds
    ]
    return [panel for panel in found if any(series.curve.values for series in panel.series)]


def mismatch_panels(run_dir: Path, compare: Path | None, *, names: tuple[str, str | None]) -> list[Panel]:
    """Return the panel of `mismatch_kl`, for runs that vLLM sampled for."""
    series = series_of(mismatch_curves(run_dir), [] if compare is None else mismatch_curves(compare), names=names)
    text = "Mean of k3 between vLLM and the trained model, by images in the prompt; below 0.015 the two agree."
    return [Panel(key="mismatch", title="vLLM against the trainer", explanation=text, series=series)] if series else []


def facts(visits: Sequence[Visit], *, shown: int, left_out: int) -> list[tuple[str, str]]:
    """Return the run's numbers in words for the top of the page."""
    train = [visit for visit in visits if visit.mode == "train"] or list(visits)
    flat = sum(visit.is_flat for visit in train) / len(train)
    first, last = train[0].step, train[-1].step
    found = [
        ("step", str(first)) if first == last else ("steps", f"{first}\u2013{last}"),
        ("samples", str(len({visit.key for visit in visits}))),
        ("groups", str(len(visits)) if shown == len(visits) else f"{len(visits)}, {shown} shown below"),
        ("completions", str(sum(len(visit.totals) for visit in visits))),
        ("groups without variance", f"{flat:.0%}"),
    ]
    return [*found, ("images not embedded", str(left_out))] if left_out else found


def _verdict(run_dir: Path, rewards: Sequence[str], chosen: str | None) -> str | None:
    """The reward that says right or wrong: the chosen one, else what the run's own options say, else the usual one."""
    if chosen is None:
        said = _options(run_dir).get("verdict")
        chosen = said if said in rewards else None
    try:
        return verdict_of(rewards, chosen)
    except ValueError as error:
        raise ReportError(str(error)) from error


def _gained(run_dir: Path, rewards: Sequence[str], groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rewards of which more than 0 is right where no other says it: those of the environments, or the only one of a
    tool. A rollout has the reward of its own environment alone.
    """
    if not any(completion.get("turns") for group in groups for completion in group["completions"]):
        return []
    if len(rewards) == 1:
        return [*rewards]
    named = _options(run_dir).get("environment") or []
    kinds = {str(one).rpartition(":")[2] for one in ([named] if isinstance(named, str) else named)}
    return [name for name in rewards if name in kinds]


def _options(run_dir: Path) -> Mapping[str, Any]:
    """What the run was told; a page without this part is still a page."""
    try:
        options = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return options if isinstance(options, dict) else {}


def _curve_json(series: Series) -> dict[str, Any]:
    values = [round(value, 5) for value in series.curve.values]
    return {"label": series.label, "steps": list(series.curve.steps), "values": values}


def _add_others(
    groups: Sequence[dict[str, Any]],
    others: Sequence[Visit],
    *,
    thumbnails: Thumbnails,
    run_dir: Path,
    completion_frame: Frame,
) -> None:
    """Give each group the compared run's last visit to the same row, where there is one.

    The same data under another path has other keys: then a sample's id decides, if only one row has it.
    """
    last = {(visit.key, visit.mode): visit for visit in others}
    keys_of: dict[str, set[str]] = defaultdict(set)
    for visit in others:
        keys_of[visit.sample_id].add(visit.key)

    def place(group: dict[str, Any]) -> tuple[str, str]:
        same_id = keys_of[group["id"]]
        key = same_id.copy().pop() if len(same_id) == 1 and (group["key"], group["mode"]) not in last else group["key"]
        return key, group["mode"]

    wanted = {key: last[key] for group in groups if (key := place(group)) in last}
    found = {
        key: other_json(group, visit, thumbnails=thumbnails, run_dir=run_dir, completion_frame=completion_frame)
        for (key, visit), group in zip(wanted.items(), read_groups(wanted.values()), strict=True)
    }
    for group in groups:
        group["other"] = found.get(place(group))


def _page(
    *,
    names: tuple[str, str | None],
    payload: Mapping[str, Any],
    facts: Sequence[tuple[str, str]],
    panels: Sequence[Panel],
    record: Mapping[str, Any],
) -> str:
    title = names[0] if names[1] is None else f"{names[0]} against {names[1]}"
    pieces = rendered_page(
        "triptych_trainer.report",
        "report",
        scripts=["strips", "cards"],
        title=title,
        facts=facts,
        warnings=warnings_of(record),
        made=made_of(record),
        verdict=payload["verdict"],
        gained=payload["gained"],
        panels=[panel_html(panel) for panel in panels],
        data=payload,
    )
    return "".join(pieces)
