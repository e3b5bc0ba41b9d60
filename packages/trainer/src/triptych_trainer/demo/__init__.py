"""The built-in demo: a small Qwen2.5-VL, its tokenizer and processor, and three questions over several pictures."""

from .dataset import vlm_r1_record, write_dataset, write_samples
from .model import build_config, build_model
from .pictures import COLOURS, PICTURE_SIDE_PIXELS, Picture, draw_picture, random_picture
from .processor import build_processor
from .task import CHANCE, FAMILIES, PLACEMENTS, Family, Placement, Sample, make_sample, place_markers
from .tokenizer import build_tokenizer

__all__ = [
    "CHANCE",
    "COLOURS",
    "FAMILIES",
    "PICTURE_SIDE_PIXELS",
    "PLACEMENTS",
    "Family",
    "Picture",
    "Placement",
    "Sample",
    "build_config",
    "build_model",
    "build_processor",
    "build_tokenizer",
    "draw_picture",
    "make_sample",
    "place_markers",
    "random_picture",
    "vlm_r1_record",
    "write_dataset",
    "write_samples",
]
