"""Sampling through TRL's connection to vLLM: each prompt is sent once, with its images, for all completions."""

import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from triptych_trainer.grpo.vllm.ban import BANNED_BIAS
from triptych_trainer.grpo.vllm.engine import from_engine
from triptych_trainer.grpo.vllm.request import Completions, Request
from triptych_trainer.grpo.vllm.server import Asked, ask_server, from_server

__all__ = ["ask_ahead", "vllm_rollouts"]


def vllm_rollouts(
    backend: Any,
    requests: Sequence[Request],
    *,
    banned_ids: Sequence[int],
    profiler: AbstractContextManager[Any] | None = None,
    sampling_params: Callable[..., Any] | None = None,
) -> list[Completions]:
    """Sample ``num_completions`` for each request.

    Args:
        backend: TRL's ``VLLMGeneration``.
        banned_ids: ids that are never to be sampled: those that stand for images.
        sampling_params: vLLM's ``SamplingParams``; taken from vllm by default.

    Raises:
        RolloutMismatchError: vLLM expands a prompt or counts an image differently.
    """
    options = _options(backend, banned_ids)
    if backend.mode == "server":
        return from_server(backend, requests, options=options, profiler=profiler or nullcontext())
    if sampling_params is None:
        sampling_params = importlib.import_module("vllm").SamplingParams
    return from_engine(
        backend, requests, options=options, profiler=profiler or nullcontext(), sampling_params=sampling_params
    )


def ask_ahead(backend: Any, requests: Sequence[Request], *, banned_ids: Sequence[int]) -> Asked:
    """Ask a server for completions and do not wait for them."""
    return ask_server(backend, requests, options=_options(backend, banned_ids))


def _options(backend: Any, banned_ids: Sequence[int]) -> dict[str, Any]:
    bias = {**(backend.generation_kwargs.get("logit_bias") or {}), **dict.fromkeys(banned_ids, BANNED_BIAS)}
    return {**backend.generation_kwargs, "logit_bias": bias}
