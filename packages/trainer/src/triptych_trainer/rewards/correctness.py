"""The reward `accuracy`: is the answer right, by the method that the sample asks for?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from triptych_trainer.rewards import matching
from triptych_trainer.rewards.accepted import LISTS, Lists, accepted_answers
from triptych_trainer.rewards.boxes import names_boxes
from triptych_trainer.rewards.citation import expected_images, score_references
from triptych_trainer.rewards.clicks import expected_targets, score_point
from triptych_trainer.rewards.frames import Frame, check_frames
from triptych_trainer.rewards.grounding import COCO_THRESHOLDS, expected_box, expected_boxes, score_boxes, score_iou
from triptych_trainer.rewards.judge import Judge
from triptych_trainer.rewards.matching import Matcher
from triptych_trainer.rewards.options import contradicts_itself, options_by_letter, same_as_option
from triptych_trainer.rewards.ordering import expected_order, score_order
from triptych_trainer.rewards.row import Completion, Reward, Row, rows
from triptych_trainer.rewards.wrapping import unwrapped

MODES: Mapping[str, Matcher] = {
    "auto": matching.same_any,
    "exact": matching.same_text,
    "numeric": matching.same_number,
    "choice": matching.same_choice,
    "yes_no": matching.same_yes_no,
    "math": matching.same_math,
}
PLACED: Mapping[str, Callable[..., float]] = {
    "iou": score_iou,
    "boxes": score_boxes,
    "detection_f1": partial(score_boxes, thresholds=COCO_THRESHOLDS),
    "detection_f1_50": partial(score_boxes, thresholds=0.5),
    "point_in_box": score_point,
}
"""Methods that compare places, whose numbers are in frames."""
LISTED: Mapping[str, Callable[[Row], float]] = {"ordering": score_order, "image_reference": score_references}
EXPECTED: Mapping[str, Callable[..., object]] = {
    "iou": expected_box,
    **dict.fromkeys(("boxes", "detection_f1", "detection_f1_50"), expected_boxes),
    "point_in_box": expected_targets,
}
SYNONYMS: Mapping[str, str] = {  # the words of VLM-R1's `accu_reward_method`
    "default": "auto",
    "mcq": "choice",
    "all_match": "exact",
    "llm": "judge",
    "od_ap": "detection_f1",
    "map": "detection_f1",
    "od_ap50": "detection_f1_50",
}
METHOD_COLUMN = "accu_reward_method"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerComparison:
    """Says how answers are compared, if the sample does not say otherwise."""

    mode: str = "auto"
    lists: Lists = "auto"
    """What a list of answers means (see `accepted_answers`)."""
    answer_frame: Frame = "seen"
    completion_frame: Frame = "seen"

    def __post_init__(self) -> None:
        """Check the words; raises ValueError with those that are known."""
        method_of(self.mode, where=f"accuracy(mode={self.mode!r})")
        check_frames(answer_frame=self.answer_frame, completion_frame=self.completion_frame)
        if self.lists not in LISTS:
            raise ValueError(f"lists={self.lists!r} is unknown; known: {', '.join(LISTS)}")

    def method(self, row: Row) -> str:
        """Return the method of a row: its column `accu_reward_method`, or else the mode; for objects with boxes `auto`
        is `boxes`.
        """
        method = method_of(row.extras.get(METHOD_COLUMN) or self.mode, where=row.where)
        return "boxes" if method == "auto" and names_boxes(row.answer or "") else method


def accuracy_reward(
    *,
    mode: str = "auto",
    lists: Lists = "auto",
    answer_frame: Frame = "seen",
    completion_frame: Frame = "seen",
    judge: Mapping[str, Any] | None = None,
) -> Reward:
    """Build the reward: 1.0 for a right answer, 0.0 for a wrong, missing or unfinished one; overlaps for boxes.

    A sample's column `accu_reward_method` overrides `mode`. `lists` says what a list of answers means, frames in which
    coordinates boxes and points are. `judge` contains the options of `Judge` (`url`, `model`, ...) and is needed when a
    sample, or `mode`, asks for the method `judge`.
    """
    how = AnswerComparison(mode=mode, lists=lists, answer_frame=answer_frame, completion_frame=completion_frame)
    panel = Judge(**judge) if judge is not None else None

    def accuracy(
        completions: Sequence[Completion],
        *,
        prompts: Sequence[Any] | None = None,
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        batch = rows(completions, prompts=prompts, completion_ids=completion_ids, columns=columns)
        judged = [row for row in batch if how.method(row) == "judge"]
        if judged:
            _need_panel(judged[0], panel)
        verdicts = iter(panel.score(judged) if panel is not None and judged else [])
        return [next(verdicts) if how.method(row) == "judge" else accuracy_score(row, how=how) for row in batch]

    def check(row: Row) -> None:
        if how.method(row) == "judge":
            _need_panel(row, panel)
        check_expected(row, how=how)

    accuracy.check_answer = check  # type: ignore[attr-defined]
    return accuracy


def accuracy_score(row: Row, *, how: AnswerComparison | None = None) -> float:
    """Score one row by a method other than `judge`."""
    how = how or AnswerComparison()
    method = how.method(row)
    if method in PLACED:
        return PLACED[method](row, answer_frame=how.answer_frame, completion_frame=how.completion_frame)
    if method in LISTED:
        return LISTED[method](row)
    if method not in MODES:
        raise ValueError(f"{row.where}: the method {method!r} cannot be used here; use {', '.join(MODES)}")
    accepted = accepted_answers(row, method=method, lists=how.lists)
    answer = row.said_answer
    if answer is None:
        return 0.0
    as_given, answer = answer, answer if method == "exact" else unwrapped(answer)
    options = options_by_letter(row) if method in ("auto", "choice") else {}
    if contradicts_itself(answer, options):
        return 0.0
    if any(MODES[method](answer, expected) or _meets_as_given(as_given, expected) for expected in accepted):
        return 1.0
    return float(any(same_as_option(answer, expected, options) for expected in accepted))


def _meets_as_given(answer: str, expected: str) -> bool:
    """Whether an answer is the expected text, or object, with what it is wrapped in."""
    return matching.same_text(answer, expected) or matching.same_object(answer, expected)


def check_expected(row: Row, *, how: AnswerComparison) -> None:
    """Raise ValueError, which names the sample, where no completion could meet what a row expects."""
    method = how.method(row)
    if method in EXPECTED:
        EXPECTED[method](row, frame=how.answer_frame)
    elif method == "ordering":
        expected_order(row)
    elif method == "image_reference":
        expected_images(row)
    else:
        accepted_answers(row, method=method, lists=how.lists)


def method_of(name: str, *, where: str) -> str:
    """Return the method that a name, ours or VLM-R1's, represents; raises ValueError listing the known ones."""
    method = SYNONYMS.get(name, name)
    if method not in {*MODES, *PLACED, *LISTED, "judge"}:
        known = ", ".join([*MODES, *PLACED, *LISTED, "judge", *SYNONYMS])
        raise ValueError(f"{where}: unknown accuracy method {name!r}; known methods: {known}")
    return method


def _need_panel(row: Row, panel: Judge | None) -> None:
    if panel is None:
        raise ValueError(
            f"{row.where}: asks for the method 'judge', and no judge is set; "
            'write accuracy(judge={"url": "http://host:port/v1", "model": "name"})'
        )
