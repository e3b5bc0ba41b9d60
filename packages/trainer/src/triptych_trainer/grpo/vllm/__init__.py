"""Rollouts by vLLM, through TRL's connection to it: each prompt is sent once, with its images, for all completions.

The two modes take a prompt in two forms. An engine in this process (colocate) expands one placeholder per image
itself, so it gets ids that are not expanded, and the ids that it reports back are compared with those that are trained
on. A server takes expanded ids beside processed images, whose places are told from the spans. In both, images go in
the order of their markers and in the size that the trainer's own processor feeds.
"""

from triptych_trainer.grpo.vllm.failures import EngineError, RolloutMismatchError
from triptych_trainer.grpo.vllm.request import Request, request
from triptych_trainer.grpo.vllm.rollouts import vllm_rollouts
from triptych_trainer.grpo.vllm.server import place_features
from triptych_trainer.grpo.vllm.weights import engine_sleeps, send_weights

__all__ = [
    "EngineError",
    "Request",
    "RolloutMismatchError",
    "engine_sleeps",
    "place_features",
    "request",
    "send_weights",
    "vllm_rollouts",
]
