"""The reward `point_in_box`: does the point of the answer, such as a click, lie in the expected box?"""

from collections.abc import Sequence

from triptych_trainer.rewards.boxes import Box
from triptych_trainer.rewards.frames import Frame, check_frames, scale_to_seen
from triptych_trainer.rewards.grounding import expected_boxes
from triptych_trainer.rewards.points import Point, read_points
from triptych_trainer.rewards.row import Reward, Row, row_reward

__all__ = ["expected_targets", "point_in_box_reward", "score_point"]


def point_in_box_reward(*, answer_frame: Frame = "seen", completion_frame: Frame = "seen") -> Reward:
    """Build the reward: 1.0 when the answer's one point lies in the expected box, or in one of several, else 0.0.

    When the sample has several images, the point must be in the box's own. A box in place of the point counts as its
    centre. Frames say in which coordinates each side is written (see `frame_size`).
    """

    check_frames(answer_frame=answer_frame, completion_frame=completion_frame)

    def point_in_box(row: Row) -> float:
        return score_point(row, answer_frame=answer_frame, completion_frame=completion_frame)

    def check(row: Row) -> None:
        expected_targets(row, frame=answer_frame)

    return row_reward(point_in_box, check=check)


def score_point(row: Row, *, answer_frame: Frame = "seen", completion_frame: Frame = "seen") -> float:
    """Look for one point in the expected boxes; a completion with none or with several different ones gets 0.0."""
    targets = expected_targets(row, frame=answer_frame)
    answer = row.said_answer
    points = [] if answer is None else read_points(answer, images=row.images)
    if len(points) != 1:
        return 0.0
    placed = _placed(points[0], row, frame=completion_frame)
    return float(placed is not None and any(_holds(box, placed) for box in targets))


def expected_targets(row: Row, *, frame: Frame) -> Sequence[Box]:
    """Return the boxes of which one has to be hit, in pixels as the model saw them; ValueError names the sample."""
    targets = expected_boxes(row, frame=frame)
    if not targets:
        raise ValueError(
            f"{row.where}: the reward point_in_box expects a box in the answer, it has none; "
            "write [x1, y1, x2, y2] or drop the row"
        )
    return targets


def _placed(point: Point, row: Row, *, frame: Frame) -> Point | None:
    """Return the point in pixels of its image as the model saw it; None where it says no image of several."""
    index = point.image if point.image is not None else 0 if len(row.images) <= 1 else -1
    if index < 0:
        return None
    known = next((image for image in row.images if image.index == index), None)
    if known is None:
        if frame != "seen":
            raise ValueError(f"{row.where}: points in the frame {frame!r} need the column 'images'")
        return Point(x=point.x, y=point.y, image=index)
    scale = scale_to_seen(known, frame)
    return Point(x=point.x * scale.x, y=point.y * scale.y, image=index)


def _holds(box: Box, point: Point) -> bool:
    return box.image == point.image and box.x1 <= point.x <= box.x2 and box.y1 <= point.y <= box.y2
