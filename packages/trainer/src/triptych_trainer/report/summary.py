"""A summary of a run's numbers: curves over steps, what changed for each sample, and which groups to show. Pure."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import pstdev

from triptych_trainer.rollouts.read import Visit, mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Contains one value per step; if it is a mean over completions, `low` and `high` are one standard deviation from
    it.
    """

    name: str
    mode: str
    steps: Sequence[int]
    values: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleHistory:
    """Contains the mean reward of one sample at each step that visited it in training, and how far it moved."""

    steps: Sequence[int]
    means: Sequence[float | None]

    @property
    def change(self) -> float | None:
        """Last mean minus first; None when the sample was seen once."""
        scored = [value for value in self.means if value is not None]
        return scored[-1] - scored[0] if len(scored) > 1 else None


def total_curves(visits: Sequence[Visit]) -> list[Curve]:
    """Return the mean total reward and its standard deviation per step, for training and for evaluation."""
    return _curves(visits, "total reward", lambda visit: visit.totals, deviation=True)


def reward_curves(visits: Sequence[Visit]) -> list[Curve]:
    """Return the mean of each reward per step."""
    names = dict.fromkeys(name for visit in visits for name in visit.rewards)
    return [curve for name in names for curve in _curves(visits, name, partial(_scores, name=name))]


def length_curves(visits: Sequence[Visit]) -> list[Curve]:
    """Return the mean completion length in tokens and its standard deviation per step."""
    return _curves(visits, "tokens", lambda visit: visit.num_tokens, deviation=True)


def flat_curves(visits: Sequence[Visit]) -> list[Curve]:
    """Return the share of groups without any difference in reward per step."""
    return _curves(visits, "groups without variance", lambda visit: [float(visit.is_flat)])


def call_curves(visits: Sequence[Visit]) -> list[Curve]:
    """Return the mean number of calls per rollout, and of those that failed, per step."""
    kinds = {"calls": "num_calls", "failed calls": "num_failed_calls"}
    return [curve for name, count in kinds.items() for curve in _curves(visits, name, partial(_counts, name=count))]


def turn_image_curves(visits: Sequence[Visit]) -> list[Curve]:
    """Return the mean number of images that arrived in a rollout per step."""
    return _curves(visits, "images", partial(_counts, name="num_turn_images"))


def all_token_curves(visits: Sequence[Visit]) -> list[Curve]:
    """Return the mean number of tokens after the prompt, those of results and images included, per step."""
    return _curves(visits, "all tokens", partial(_counts, name="num_all_tokens"), deviation=True)


def histories(visits: Sequence[Visit]) -> dict[str, SampleHistory]:
    """Return the training history of each row of the data, by its key."""
    by_key: dict[str, list[Visit]] = defaultdict(list)
    for visit in visits:
        if visit.mode == "train":
            by_key[visit.key].append(visit)
    return {
        key: SampleHistory(steps=[visit.step for visit in own], means=[visit.mean for visit in own])
        for key, own in by_key.items()
    }


def choose(visits: Sequence[Visit], *, limit: int) -> list[Visit]:
    """Return at most `limit` groups, in order of step: samples that moved most first (their first and last visit), then
    those seen once with the largest spread, newest first.
    """
    if len(visits) <= limit:
        return list(visits)
    known = histories(visits)

    def moved(visit: Visit) -> float:
        history = known.get(visit.key)
        return abs(history.change or 0.0) if history is not None else 0.0

    def is_end(visit: Visit) -> bool:
        history = known.get(visit.key)
        return history is None or visit.step in (history.steps[0], history.steps[-1])

    ranked = sorted(
        range(len(visits)),
        key=lambda k: (not is_end(visits[k]), -moved(visits[k]), -visits[k].spread, -visits[k].step, k),
    )
    return [visits[k] for k in sorted(ranked[:limit])]


def _scores(visit: Visit, *, name: str) -> Sequence[float | None]:
    return visit.rewards.get(name, ())


def _counts(visit: Visit, *, name: str) -> Sequence[int]:
    return visit.counts.get(name, ())


def _curves(
    visits: Sequence[Visit],
    name: str,
    values: Callable[[Visit], Sequence[float | None]],
    *,
    deviation: bool = False,
) -> list[Curve]:
    curves = []
    for mode in dict.fromkeys(visit.mode for visit in visits):
        by_step: dict[int, list[float]] = defaultdict(list)
        for visit in visits:
            if visit.mode == mode:
                by_step[visit.step] += [value for value in values(visit) if value is not None]
        steps = sorted(step for step, found in by_step.items() if found)
        if steps:
            curves.append(_curve(name, mode, steps, by_step, deviation=deviation))
    return curves


def _curve(
    name: str, mode: str, steps: Sequence[int], by_step: Mapping[int, Sequence[float]], *, deviation: bool
) -> Curve:
    means = [mean(by_step[step]) or 0.0 for step in steps]
    if not deviation:
        return Curve(name=name, mode=mode, steps=steps, values=means)
    deviations = [pstdev(by_step[step]) for step in steps]
    return Curve(
        name=name,
        mode=mode,
        steps=steps,
        values=means,
        low=[value - off for value, off in zip(means, deviations, strict=True)],
        high=[value + off for value, off in zip(means, deviations, strict=True)],
    )
