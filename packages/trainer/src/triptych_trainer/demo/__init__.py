"""The built-in demo: a small Qwen2.5-VL, its tokenizer and processor, and three questions over several pictures."""

from .behaviour import bare, careful, hasty
from .dataset import vlm_r1_record, write_dataset, write_samples
from .evaluate import Evaluation, evaluate, heldout_samples
from .model import build_config, build_model
from .pictures import COLOURS, PICTURE_SIDE_PIXELS, Picture, draw_picture, random_picture
from .processor import build_processor
from .recipe import GRPOOptions, GRPORecipe
from .task import CHANCE, PLACEMENTS, QUESTION_KINDS, Placement, QuestionKind, Sample, make_sample, place_markers
from .tokenizer import build_tokenizer
from .warmup import STAGES, Stage, WarmupRecipe, WarmupStep, warm_up

__all__ = [
    "CHANCE",
    "COLOURS",
    "PICTURE_SIDE_PIXELS",
    "PLACEMENTS",
    "QUESTION_KINDS",
    "STAGES",
    "Evaluation",
    "GRPOOptions",
    "GRPORecipe",
    "Picture",
    "Placement",
    "QuestionKind",
    "Sample",
    "Stage",
    "WarmupRecipe",
    "WarmupStep",
    "bare",
    "build_config",
    "build_model",
    "build_processor",
    "build_tokenizer",
    "careful",
    "draw_picture",
    "evaluate",
    "hasty",
    "heldout_samples",
    "make_sample",
    "place_markers",
    "random_picture",
    "vlm_r1_record",
    "warm_up",
    "write_dataset",
    "write_samples",
]
