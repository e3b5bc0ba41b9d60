"""Tiny models of every tested family, with real processors; `CASES` is all of them."""

from . import gemma, glm, llava, others, qwen, tail, tiles
from .case import Case, Prompts, build_model, build_prompts, pictures, spread
from .stock import accepted, replicated, stock_generate, stock_logps
from .table import DOCUMENT, differences, stated_rows, write_rows
from .turns import Trajectories, arrivals, build_trajectories, rollouts_so_far, stock_trajectory_logps
from .verdicts import stated_verdicts, write_verdicts

CASES: dict[str, Case] = {**qwen.CASES, **glm.CASES, **llava.CASES, **tiles.CASES, **gemma.CASES, **others.CASES}
CASES |= tail.CASES
QUICK = ("qwen2_5_vl", "qwen3_5_moe", "internvl_gpt_oss", "llava_onevision", "gemma3")
"""The families of the quick tests: M-RoPE, linear attention with experts, sinks, tiles, attention both ways."""

__all__ = [
    "CASES",
    "DOCUMENT",
    "QUICK",
    "Case",
    "Prompts",
    "Trajectories",
    "accepted",
    "arrivals",
    "build_model",
    "build_prompts",
    "build_trajectories",
    "differences",
    "pictures",
    "replicated",
    "rollouts_so_far",
    "spread",
    "stated_rows",
    "stated_verdicts",
    "stock_generate",
    "stock_logps",
    "stock_trajectory_logps",
    "write_rows",
    "write_verdicts",
]
