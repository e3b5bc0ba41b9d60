"""The reward `accuracy`: is the answer right, by the method that the sample asks for?"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from triptych_trainer.rewards import matching
from triptych_trainer.rewards.citation import score_references
from triptych_trainer.rewards.completion import extract_answer
from triptych_trainer.rewards.grounding import COCO_THRESHOLDS, score_boxes, score_iou
from triptych_trainer.rewards.judge import Judge
from triptych_trainer.rewards.matching import Matcher
from triptych_trainer.rewards.ordering import score_order
from triptych_trainer.rewards.row import Completion, Reward, Row, expected_answer, rows

MODES: Mapping[str, Matcher] = {
    "auto": matching.same_any,
    "exact": matching.same_text,
    "numeric": matching.same_number,
    "choice": matching.same_choice,
    "yes_no": matching.same_yes_no,
    "math": matching.same_math,
}
PLACED: Mapping[str, Callable[[Row], float]] = {
    "iou": score_iou,
    "boxes": score_boxes,
    "ordering": score_order,
    "image_reference": score_references,
    "od_ap50": partial(score_boxes, thresholds=0.5),
    "od_ap": partial(score_boxes, thresholds=COCO_THRESHOLDS),
}
SYNONYMS: Mapping[str, str] = {  # the words of VLM-R1's `accu_reward_method`
    "default": "auto",
    "mcq": "choice",
    "all_match": "exact",
    "llm": "judge",
    "map": "od_ap",
}
METHOD_COLUMN = "accu_reward_method"


def accuracy_reward(*, mode: str = "auto", judge: Mapping[str, Any] | None = None) -> Reward:
    """Build the reward: 1.0 for a right answer, 0.0 for a wrong, missing or unfinished one; overlaps for boxes.

    A sample's column `accu_reward_method` overrides `mode`. `judge` holds the options of `Judge` (`url`, `model`, ...)
    and is needed when a sample, or `mode`, asks for the method `judge`.
    """
    method_of(mode, where=f"accuracy(mode={mode!r})")
    panel = Judge(**judge) if judge is not None else None

    def accuracy(
        completions: Sequence[Completion],
        *,
        prompts: Sequence[Any] | None = None,
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        batch = rows(completions, prompts=prompts, completion_ids=completion_ids, columns=columns)
        methods = [method_of(row.extras.get(METHOD_COLUMN) or mode, where=row.where) for row in batch]
        judged = [row for row, method in zip(batch, methods, strict=True) if method == "judge"]
        if judged and panel is None:
            raise ValueError(
                f"{judged[0].where}: asks for the method 'judge', and no judge is set; "
                'write accuracy(judge={"url": "http://host:port/v1", "model": "name"})'
            )
        verdicts = iter(panel.score(judged) if panel is not None and judged else [])
        return [
            next(verdicts) if method == "judge" else accuracy_score(row, mode=method)
            for row, method in zip(batch, methods, strict=True)
        ]

    return accuracy


def accuracy_score(row: Row, *, mode: str = "auto") -> float:
    """Score one row by a method other than `judge`."""
    method = method_of(mode, where=row.where)
    if method in PLACED:
        return PLACED[method](row)
    if method not in MODES:
        raise ValueError(f"{row.where}: the method {mode!r} cannot be used here; use {', '.join(MODES)}")
    expected = expected_answer(row)
    answer = extract_answer(row.text)
    return float(answer is not None and MODES[method](answer, expected))


def method_of(name: str, *, where: str) -> str:
    """Return the method that a name, ours or VLM-R1's, stands for; raises ValueError listing the known ones."""
    method = SYNONYMS.get(name, name)
    if method not in MODES and method not in PLACED and method != "judge":
        known = ", ".join([*MODES, *PLACED, "judge", *SYNONYMS])
        raise ValueError(f"{where}: unknown accuracy method {name!r}; known methods: {known}")
    return method
