"""The rewards `iou` (one box) and `boxes` (a set): did the model point at the right place in the right image?"""

from collections.abc import Sequence

from triptych_trainer.rewards.boxes import Box, Frame, iou, matched_ious, read_boxes, to_seen
from triptych_trainer.rewards.completion import extract_answer
from triptych_trainer.rewards.row import Reward, Row, expected_answer, row_reward

COCO_THRESHOLDS = tuple(k / 100 for k in range(50, 100, 5))


def iou_reward(
    *, threshold: float | None = None, answer_frame: Frame = "seen", completion_frame: Frame = "seen"
) -> Reward:
    """Build the reward: overlap of the answer's one box with the expected one; 1.0 or 0.0 with a `threshold`.

    When the sample has several images, both boxes must be in the same one. Frames say in which coordinates each side
    is written (see `to_seen`).
    """

    def iou(row: Row) -> float:
        return score_iou(row, threshold=threshold, answer_frame=answer_frame, completion_frame=completion_frame)

    return row_reward(iou)


def boxes_reward(
    *,
    thresholds: float | Sequence[float] | None = None,
    answer_frame: Frame = "seen",
    completion_frame: Frame = "seen",
) -> Reward:
    """Build the reward for a set of boxes.

    Without `thresholds` the overlaps of the one-to-one pairs, summed and divided by the larger number of boxes; with
    one or several, the F1 of the pairs that reach it, averaged. `[]` is the right answer where no box is expected.
    """

    def boxes(row: Row) -> float:
        return score_boxes(row, thresholds=thresholds, answer_frame=answer_frame, completion_frame=completion_frame)

    return row_reward(boxes)


def score_iou(
    row: Row, *, threshold: float | None = None, answer_frame: Frame = "seen", completion_frame: Frame = "seen"
) -> float:
    """Compare one box with one box; a completion with none or with several gets 0.0."""
    expected = _expected_boxes(row, frame=answer_frame)
    if len(expected) != 1:
        raise ValueError(
            f"{row.where}: the reward iou expects one box in the answer, it has {len(expected)}; use the reward boxes"
        )
    predicted = _predicted_boxes(row, frame=completion_frame)
    if predicted is None or len(predicted) != 1:
        return 0.0
    overlap = iou(predicted[0], expected[0])
    return overlap if threshold is None else float(overlap >= threshold)


def score_boxes(
    row: Row,
    *,
    thresholds: float | Sequence[float] | None = None,
    answer_frame: Frame = "seen",
    completion_frame: Frame = "seen",
) -> float:
    """Compare a set of boxes with a set of boxes."""
    expected = _expected_boxes(row, frame=answer_frame)
    predicted = _predicted_boxes(row, frame=completion_frame)
    if predicted is None:
        return 0.0
    if not predicted or not expected:
        return float(not predicted and not expected)
    overlaps = matched_ious(predicted, expected)
    if thresholds is None:
        return sum(overlaps) / max(len(predicted), len(expected))
    levels = (thresholds,) if isinstance(thresholds, int | float) else tuple(thresholds)
    hits = [sum(overlap >= level for overlap in overlaps) for level in levels]
    return sum(2 * hit / (len(predicted) + len(expected)) for hit in hits) / len(levels)


def _expected_boxes(row: Row, *, frame: Frame) -> list[Box]:
    reading = read_boxes(expected_answer(row), images=row.images)
    if reading.problem:
        raise ValueError(
            f"{row.where}: the answer {row.answer!r} holds {reading.problem}; write [x1, y1, x2, y2] or "
            '[{"bbox_2d": [x1, y1, x2, y2], "image": 2}]'
        )
    for box in reading.boxes:
        if box.image == -1 or (box.image is None and len(row.images) > 1):
            raise ValueError(
                f"{row.where}: the answer {row.answer!r} does not say which of the {len(row.images)} images its box "
                'is in; add "image" with its number from 1 or its name'
            )
    return _placed(reading.boxes, row, frame=frame)


def _predicted_boxes(row: Row, *, frame: Frame) -> list[Box] | None:
    """Return the completion's boxes, None when it has no readable answer; a box without its image counts as nowhere."""
    answer = extract_answer(row.text)
    if answer is None:
        return None
    reading = read_boxes(answer, images=row.images)
    return None if reading.problem else _placed(reading.boxes, row, frame=frame)


def _placed(boxes: Sequence[Box], row: Row, *, frame: Frame) -> list[Box]:
    """Give each box an image (the only one, or -1) and the coordinates of the image as the model saw it."""
    placed = []
    for box in boxes:
        index = box.image if box.image is not None else 0 if len(row.images) <= 1 else -1
        known = next((image for image in row.images if image.index == index), None)
        if known is None and frame != "seen" and index >= 0:
            raise ValueError(f"{row.where}: boxes in the frame {frame!r} need the column 'images'")
        moved = to_seen(box, known, frame=frame) if known is not None else box
        placed.append(Box(x1=moved.x1, y1=moved.y1, x2=moved.x2, y2=moved.y2, image=index, label=box.label))
    return placed
