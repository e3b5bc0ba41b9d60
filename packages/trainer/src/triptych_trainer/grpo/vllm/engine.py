"""Rollouts by a vLLM engine in this process, which expands one placeholder per image itself."""

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from accelerate.utils import is_peft_model

from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.vllm.ban import ASKED_LOGPS, MOST_LOGPS
from triptych_trainer.grpo.vllm.failures import engine_failures
from triptych_trainer.grpo.vllm.request import (
    Completions,
    Request,
    check_expanded,
    check_lengths,
    limit_of,
    sampling_options,
)
from triptych_trainer.grpo.vllm.told import TIES, Asking, asking_for

__all__ = ["from_engine", "let_sleep"]

MOST_KEPT = 1024
"""How many likeliest tokens an engine is asked for, at most: each is an object of about 200 bytes for each token."""


def from_engine(
    backend: Any,
    requests: Sequence[Request],
    *,
    options: Mapping[str, Any],
    profiler: AbstractContextManager[Any],
    sampling_params: Callable[..., Any],
    stays_awake: bool = False,
) -> list[Completions]:
    """Return this rank's own results; each group of tensor-parallel ranks runs the requests of all of its ranks."""
    everyone, first = list(requests), 0
    if backend.tensor_parallel_size > 1:
        gathered: list[Any] = [None] * backend.tensor_parallel_size
        torch.distributed.all_gather_object(gathered, list(requests), group=backend.tp_group)
        everyone = [one for part in gathered for one in part]
        first = sum(len(part) for part in gathered[: torch.distributed.get_rank(group=backend.tp_group)])
    if backend.enable_sleep_mode and not getattr(backend, "is_awake", False):  # sending the weights woke those
        backend.llm.wake_up(tags=["kv_cache"])
        backend.is_awake = True
    common = {**sampling_options(backend), **_structured(backend, options)}
    asking = _asking(backend, common)
    if ASKED_LOGPS not in asking.options or ASKED_LOGPS in inspect.signature(sampling_params).parameters:
        common |= asking.options
    if backend.tensor_parallel_size > 1 and is_peft_model(backend.model):
        # As TRL does: the short all-reduce of adapters can still be under way, and vLLM's collectives hang (TRL #3671).
        torch.distributed.barrier(device_ids=[backend.accelerator.local_process_index])
    check_lengths(everyone, longest=backend.llm.llm_engine.model_config.max_model_len)
    prompts = [_engine_prompt(one) for one in everyone]
    params = [_sampling(sampling_params, {**common, **limit_of(one)}, one.num_completions) for one in everyone]
    with profiler, engine_failures("the vLLM engine"):
        outputs = backend.llm.generate(prompts, sampling_params=params, use_tqdm=False) if prompts else []
    if not stays_awake:
        let_sleep(backend)
    mine = slice(first, first + len(requests))
    return [_read(output, one, asking=asking) for output, one in zip(outputs[mine], requests, strict=True)]


def let_sleep(backend: Any) -> None:
    """Put an engine in sleep mode to sleep, if it is awake: it drops its weights and its keys and values."""
    if backend.mode == "colocate" and backend.enable_sleep_mode and getattr(backend, "is_awake", False):
        backend.llm.sleep(level=2)
        backend.is_awake, backend._llm_weights_sleeping = False, True


def _asking(backend: Any, sampling: Mapping[str, Any]) -> Asking:
    """What the engine is asked to return; it is told to return as many likeliest tokens as `top_k` keeps."""
    is_cut, config = getattr(backend, "scores_kept", False), backend.llm.llm_engine.model_config
    most = getattr(config, "max_logprobs", MOST_LOGPS)
    vocabulary = config.get_vocab_size() if hasattr(config, "get_vocab_size") else MOST_KEPT
    wanted = min((sampling["top_k"] or 0) + TIES, MOST_KEPT, vocabulary)
    if is_cut and 0 <= most < wanted:
        config.max_logprobs = most = wanted
    return asking_for(sampling, mode="colocate", is_cut=is_cut, most=most if most >= 0 else max(wanted, MOST_LOGPS))


def _sampling(sampling_params: Callable[..., Any], options: Mapping[str, Any], num_completions: int) -> Any:
    try:
        return sampling_params(**options, n=num_completions)
    except Exception as error:  # vLLM's own errors are no ValueError
        said = " ".join(str(error).split())
        raise UsageError(
            f"vLLM refuses the options of sampling (--temperature, --generation_kwargs): {said}"
        ) from error


def _structured(backend: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    given = {"regex": backend.structured_outputs_regex} if backend.structured_outputs_regex else None
    given = given or options.get("structured_outputs")
    if not isinstance(given, dict):
        return dict(options)
    outputs = importlib.import_module("vllm.sampling_params").StructuredOutputsParams
    return {**options, "structured_outputs": outputs(**given)}


def _engine_prompt(one: Request) -> dict[str, Any]:
    prompt: dict[str, Any] = {"prompt_token_ids": one.short_ids}
    if not one.images:
        return prompt
    prompt["multi_modal_data"] = {"image": one.images}
    if one.is_resized:  # the checkpoint's own limits, which vLLM would apply, may be narrower than the run's
        prompt["mm_processor_kwargs"] = {"do_resize": False}
    return prompt


def _read(output: Any, one: Request, *, asking: Asking) -> Completions:
    """Check that the engine expanded the prompt as it is trained on, and read what it sampled."""
    check_expanded(one, list(output.prompt_token_ids))
    found = []
    for row in sorted(output.outputs, key=lambda completion: completion.index):
        told = [{token: place.logprob for token, place in places.items()} for places in row.logprobs]
        logps = [others[token] for token, others in zip(row.token_ids, told, strict=True)]
        found.append(asking.sampled(list(row.token_ids), logps, told, mask=None, where=one.name))
    return found
