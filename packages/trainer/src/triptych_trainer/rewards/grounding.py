"""The rewards `iou` (one box) and `boxes` (a set): did the model point at the right place in the right image?"""

from collections.abc import Sequence

from triptych_trainer.rewards.boxes import Box, iou, matched_ious, num_matches, read_boxes, to_seen
from triptych_trainer.rewards.frames import Frame, check_frames, outside_problem
from triptych_trainer.rewards.row import Reward, Row, expected_answer, row_reward

COCO_THRESHOLDS = tuple(k / 100 for k in range(50, 100, 5))


def iou_reward(
    *, threshold: float | None = None, answer_frame: Frame = "seen", completion_frame: Frame = "seen"
) -> Reward:
    """Build the reward: overlap of the answer's one box with the expected one; 1.0 or 0.0 with a `threshold`.

    When the sample has several images, both boxes must be in the same one. Frames say in which coordinates each side
    is written (see `to_seen`).
    """

    check_frames(answer_frame=answer_frame, completion_frame=completion_frame)

    def iou(row: Row) -> float:
        return score_iou(row, threshold=threshold, answer_frame=answer_frame, completion_frame=completion_frame)

    def check(row: Row) -> None:
        expected_box(row, frame=answer_frame)

    return row_reward(iou, check=check)


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

    check_frames(answer_frame=answer_frame, completion_frame=completion_frame)

    def boxes(row: Row) -> float:
        return score_boxes(row, thresholds=thresholds, answer_frame=answer_frame, completion_frame=completion_frame)

    def check(row: Row) -> None:
        expected_boxes(row, frame=answer_frame)

    return row_reward(boxes, check=check)


def score_iou(
    row: Row, *, threshold: float | None = None, answer_frame: Frame = "seen", completion_frame: Frame = "seen"
) -> float:
    """Compare one box with one box; a completion with none or with several gets 0.0."""
    expected = expected_box(row, frame=answer_frame)
    predicted = _predicted_boxes(row, frame=completion_frame)
    if predicted is None or len(predicted) != 1:
        return 0.0
    overlap = iou(predicted[0], expected)
    return overlap if threshold is None else float(overlap >= threshold)


def score_boxes(
    row: Row,
    *,
    thresholds: float | Sequence[float] | None = None,
    answer_frame: Frame = "seen",
    completion_frame: Frame = "seen",
) -> float:
    """Compare a set of boxes with a set of boxes."""
    expected = expected_boxes(row, frame=answer_frame)
    predicted = _predicted_boxes(row, frame=completion_frame)
    if predicted is None:
        return 0.0
    if not predicted or not expected:
        return float(not predicted and not expected)
    if thresholds is None:
        return sum(matched_ious(predicted, expected)) / max(len(predicted), len(expected))
    levels = (thresholds,) if isinstance(thresholds, int | float) else tuple(thresholds)
    hits = [num_matches(predicted, expected, threshold=level) for level in levels]
    return sum(2 * hit / (len(predicted) + len(expected)) for hit in hits) / len(levels)


def expected_box(row: Row, *, frame: Frame) -> Box:
    """Return the one box that a row expects, in pixels as the model saw them; ValueError names the sample."""
    expected = expected_boxes(row, frame=frame)
    if len(expected) != 1:
        raise ValueError(
            f"{row.where}: the reward iou expects one box in the answer, it has {len(expected)}; use the reward boxes"
        )
    return expected[0]


def expected_boxes(row: Row, *, frame: Frame) -> list[Box]:
    """Return the boxes that a row expects, in pixels as the model saw them.

    Raises ValueError, which names the sample, where there is none to read, where a box says no image of several, and
    where no answer could meet it: corners in the wrong order, or outside its image in the frame.
    """
    reading = read_boxes(expected_answer(row), images=row.images)
    if reading.problem:
        raise ValueError(
            f"{row.where}: the answer {row.answer!r} contains {reading.problem}; write [x1, y1, x2, y2] or "
            '[{"bbox_2d": [x1, y1, x2, y2], "image": 2}]'
        )
    for box in reading.boxes:
        if box.image == -1:
            count = len(row.images)
            raise ValueError(
                f"{row.where}: the answer {row.answer!r} puts a box into an image that the row does not have: it has "
                f"{count} image{'s' * (count != 1)}; correct the number, from 1, or the name"
            )
        if box.image is None and len(row.images) > 1:
            raise ValueError(
                f"{row.where}: the answer {row.answer!r} does not say which of the {len(row.images)} images its box "
                'is in; add "image" with its number from 1 or its name'
            )
    boxes = _placed(reading.boxes, row, frame=frame)
    for written, placed in zip(reading.boxes, boxes, strict=True):
        _check_can_be_met(written, row, image=placed.image, frame=frame)
    return boxes


def _check_can_be_met(box: Box, row: Row, *, image: int | None, frame: Frame) -> None:
    corners = (box.x1, box.y1, box.x2, box.y2)
    shown = f"{row.where}: the expected box [{', '.join(f'{corner:g}' for corner in corners)}]"
    if box.area <= 0:
        raise ValueError(
            f"{shown} has no area in the frame {frame!r} (answer_frame), because its corners are equal or in the wrong "
            "order; write [left, top, right, bottom]"
        )
    if frame != "unit" and min(corners) >= 0 and max(corners) <= 1:
        raise ValueError(
            f"{shown} is not larger than 1 x 1 in the frame {frame!r} (answer_frame); if its numbers are shares of the "
            'image, state the frame that fits, answer_frame="unit", or else correct the answer'
        )
    known = next((one for one in row.images if one.index == image), None)
    problem = None if known is None else outside_problem(corners, known, frame=frame, option="answer_frame")
    if problem is not None:
        raise ValueError(f"{shown} {problem}")


def _predicted_boxes(row: Row, *, frame: Frame) -> list[Box] | None:
    """Return the completion's boxes, None when it has no readable answer; a box without its image counts as nowhere."""
    answer = row.said_answer
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
