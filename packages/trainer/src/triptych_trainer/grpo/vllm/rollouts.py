"""Sampling through TRL's connection to vLLM: each prompt is sent once, with its images, for all completions."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from accelerate.utils import broadcast_object_list, gather_object

from triptych_trainer.grpo.vllm.ban import BANNED_BIAS
from triptych_trainer.grpo.vllm.engine import from_engine
from triptych_trainer.grpo.vllm.failures import engine_failures
from triptych_trainer.grpo.vllm.request import Completions, Request
from triptych_trainer.grpo.vllm.server import AskedGeneration, ask_server, from_server, server_of

__all__ = ["anywhere", "ask_ahead", "longest_prompt", "vllm_rollouts"]


def vllm_rollouts(
    backend: Any,
    requests: Sequence[Request],
    *,
    banned_ids: Sequence[int],
    profiler: AbstractContextManager[Any] | None = None,
    sampling_params: Callable[..., Any] | None = None,
    options: Mapping[str, Any] | None = None,
    stays_awake: bool = False,
) -> list[Completions]:
    """Sample ``num_completions`` for each request.

    Args:
        backend: TRL's ``VLLMGeneration``.
        banned_ids: ids that are never to be sampled: those that represent images.
        sampling_params: vLLM's ``SamplingParams``; taken from vllm by default.
        options: sampling parameters by vLLM's names, instead of those of the run.
        stays_awake: an engine in sleep mode is asked again before it puts its weights away, by ``let_sleep``.

    Raises:
        RolloutMismatchError: vLLM expands a prompt or counts an image differently.
    """
    options = {**_options(backend, banned_ids), **(options or {})}
    if backend.mode == "server":
        return from_server(backend, requests, options=options, profiler=profiler or nullcontext())
    if sampling_params is None:
        sampling_params = importlib.import_module("vllm").SamplingParams
    return from_engine(
        backend,
        requests,
        options=options,
        profiler=profiler or nullcontext(),
        sampling_params=sampling_params,
        stays_awake=stays_awake,
    )


def ask_ahead(
    backend: Any, requests: Sequence[Request], *, banned_ids: Sequence[int], options: Mapping[str, Any]
) -> AskedGeneration:
    """Ask a server for completions and do not wait for them; ``options`` as for ``vllm_rollouts``."""
    return ask_server(backend, requests, options={**_options(backend, banned_ids), **options})


def anywhere(backend: Any, mine: bool) -> bool:
    """Return whether any rank has something to ask; ranks that share an engine or a server ask together."""
    if backend.mode == "server" or backend.tensor_parallel_size > 1:
        return any(gather_object([mine]))
    return mine


def longest_prompt(backend: Any) -> int:
    """Return how many tokens vLLM takes, prompt and completion together; all ranks ask for it."""
    if backend.mode == "colocate":
        return int(backend.llm.llm_engine.model_config.max_model_len)
    found: list[Any] = [None]
    if backend.accelerator.is_main_process:
        client = server_of(backend).client
        with engine_failures(f"the vLLM server at {client.base_url}", doing="was asked for its limits"):
            found = [client.limits()["max_model_len"]]
    broadcast_object_list(found, from_process=0)
    return int(found[0])


def _options(backend: Any, banned_ids: Sequence[int]) -> dict[str, Any]:
    bias = {**(backend.generation_kwargs.get("logit_bias") or {}), **dict.fromkeys(banned_ids, BANNED_BIAS)}
    return {**backend.generation_kwargs, "logit_bias": bias}
