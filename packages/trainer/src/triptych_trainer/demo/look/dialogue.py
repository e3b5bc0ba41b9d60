"""What the warm-up lets the model say, turn by turn: carefully, or with the habits that GRPO has to break."""

import random
from dataclasses import dataclass

from triptych_trainer.demo.look.task import NUM_BOXES, BoxSample
from triptych_trainer.demo.pictures import COLOURS

__all__ = ["Said", "bare", "careful", "habitual", "with_needless_look"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Contains one message of the model."""

    text: str
    opens: int | None = None
    """The box that it opens, counted from 1; None for an answer."""


def careful(sample: BoxSample) -> list[Said]:
    """Open what is asked and nothing else, then answer."""
    thought = f"<think> {sample.asked_lid} {sample.asked[0]}</think>" if sample.kind == "one" else ""
    looks = [_look(box, thought=thought) for box in sample.asked]
    return [*looks, _answer(sample.answer)]


def with_needless_look(sample: BoxSample, rng: random.Random) -> list[Said]:
    """Open one box more than the question needs, then answer right."""
    *looks, answer = careful(sample)
    return [*looks, _look(_any_box(rng)), answer]


def habitual(sample: BoxSample, rng: random.Random) -> list[Said]:
    """Answer as the habit of the sample's kind does: right by luck, or with a look that nobody needs."""
    draw = rng.random()
    if sample.kind == "lids" or (sample.kind == "one" and draw >= 0.9):
        return with_needless_look(sample, rng)
    if draw < 0.7:
        return [_answer(" ".join(_any_colour(rng) for _ in sample.asked))]
    if sample.kind == "one":
        box = _any_box(rng)
        return [_look(box, thought=f"<think> {sample.asked_lid} {box}</think>"), _answer(sample.inside[box - 1].colour)]
    first = sample.asked[0]
    return [_look(first), _answer(f"{sample.inside[first - 1].colour} {_any_colour(rng)}")]


def bare(said: list[Said]) -> list[Said]:
    """Answer as `habitual` does, but leave out the tags around the answer."""
    *looks, answer = said
    return [*looks, Said(text=answer.text.removeprefix("<answer>").removesuffix("</answer>"))]


def _look(box: int, *, thought: str = "") -> Said:
    return Said(text=f"{thought}<tool_call> look box {box}</tool_call>", opens=box)


def _answer(colours: str) -> Said:
    return Said(text=f"<answer> {colours}</answer>")


def _any_box(rng: random.Random) -> int:
    return rng.randint(1, NUM_BOXES)


def _any_colour(rng: random.Random) -> str:
    return rng.choice(list(COLOURS))
