"""Rollouts by vLLM, through TRL's connection to it: each prompt is sent once, with its images, for all completions.

An engine in this process (colocate) and a server both get ids with one placeholder per image, which vLLM expands; the
ids that it reports back are compared with those that are trained on. Images go in the order of their markers and in
the size that the trainer's own processor feeds; a server gets the pixels of an image once, and then its digest.
"""

from triptych_trainer.grpo.vllm.ban import MOST_TOLD
from triptych_trainer.grpo.vllm.client import RolloutClient
from triptych_trainer.grpo.vllm.config_check import check_config
from triptych_trainer.grpo.vllm.engine import let_sleep
from triptych_trainer.grpo.vllm.failures import EngineError, RolloutMismatchError
from triptych_trainer.grpo.vllm.folder_transfer import TRANSFERS, folder_is_used
from triptych_trainer.grpo.vllm.request import Request, next_turns, request
from triptych_trainer.grpo.vllm.rollouts import anywhere, ask_ahead, longest_prompt, vllm_rollouts
from triptych_trainer.grpo.vllm.server import SECONDS, AskedGeneration, answers_of, payload_of
from triptych_trainer.grpo.vllm.weights import engine_sleeps, send_weights

__all__ = [
    "MOST_TOLD",
    "SECONDS",
    "TRANSFERS",
    "AskedGeneration",
    "EngineError",
    "Request",
    "RolloutClient",
    "RolloutMismatchError",
    "answers_of",
    "anywhere",
    "ask_ahead",
    "check_config",
    "engine_sleeps",
    "folder_is_used",
    "let_sleep",
    "longest_prompt",
    "next_turns",
    "payload_of",
    "request",
    "send_weights",
    "vllm_rollouts",
]
