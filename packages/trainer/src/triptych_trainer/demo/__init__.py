"""The built-in demo: a small Qwen2.5-VL, its tokenizer and processor, and three questions over several pictures."""

from .dataset import write_dataset
from .evaluate import Evaluation, evaluate, heldout_samples
from .model import build_model
from .processor import build_processor
from .recipe import GRPORecipe
from .task import CHANCE, Placement
from .tokenizer import build_tokenizer
from .warmup import STAGES, WarmupRecipe

__all__ = [
    "CHANCE",
    "STAGES",
    "Evaluation",
    "GRPORecipe",
    "Placement",
    "WarmupRecipe",
    "build_model",
    "build_processor",
    "build_tokenizer",
    "evaluate",
    "heldout_samples",
    "write_dataset",
]
