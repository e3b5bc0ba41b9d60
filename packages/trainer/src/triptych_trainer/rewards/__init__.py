"""Reward functions in TRL's convention, for answers about several images."""

from triptych_trainer.rewards.boxes import Box, BoxReading, iou, read_boxes, scale_box, to_seen
from triptych_trainer.rewards.citation import cited_images, image_reference_reward
from triptych_trainer.rewards.clicks import point_in_box_reward
from triptych_trainer.rewards.completion import Reading, completion_text, extract_answer, read_completion
from triptych_trainer.rewards.correctness import accuracy_reward, accuracy_score
from triptych_trainer.rewards.format import format_reward
from triptych_trainer.rewards.grounding import boxes_reward, iou_reward
from triptych_trainer.rewards.guard import RewardError, guarded
from triptych_trainer.rewards.judge import Judge, judge_reward
from triptych_trainer.rewards.judge_error import JudgeError
from triptych_trainer.rewards.lengths import cosine_length_reward, length_reward
from triptych_trainer.rewards.loading import KNOWN_REWARDS, load_reward
from triptych_trainer.rewards.ordering import ordering_reward
from triptych_trainer.rewards.points import Point, read_points
from triptych_trainer.rewards.repetition import repetition_reward
from triptych_trainer.rewards.row import ImageInfo, Reward, Row, row_reward

__all__ = [
    "KNOWN_REWARDS",
    "Box",
    "BoxReading",
    "ImageInfo",
    "Judge",
    "JudgeError",
    "Point",
    "Reading",
    "Reward",
    "RewardError",
    "Row",
    "accuracy_reward",
    "accuracy_score",
    "boxes_reward",
    "cited_images",
    "completion_text",
    "cosine_length_reward",
    "extract_answer",
    "format_reward",
    "guarded",
    "image_reference_reward",
    "iou",
    "iou_reward",
    "judge_reward",
    "length_reward",
    "load_reward",
    "ordering_reward",
    "point_in_box_reward",
    "read_boxes",
    "read_completion",
    "read_points",
    "repetition_reward",
    "row_reward",
    "scale_box",
    "to_seen",
]
