"""Tiny models of every tested family, with real processors; `CASES` is all of them."""

from . import gemma, glm, llava, others, qwen, tiles
from .case import Case, Prompts, build_model, build_prompts, pictures
from .stock import accepted, replicated, stock_generate, stock_logps

CASES: dict[str, Case] = {**qwen.CASES, **glm.CASES, **llava.CASES, **tiles.CASES, **gemma.CASES, **others.CASES}

__all__ = [
    "CASES",
    "Case",
    "Prompts",
    "accepted",
    "build_model",
    "build_prompts",
    "pictures",
    "replicated",
    "stock_generate",
    "stock_logps",
]
