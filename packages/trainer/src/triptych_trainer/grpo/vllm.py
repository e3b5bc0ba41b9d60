"""Rollouts by vLLM, through TRL's connection to it: each prompt is sent once, with its images, for all completions.

The two modes take a prompt in two forms. An engine in this process (colocate) expands one placeholder per image
itself, so it gets ids that are not expanded, and the ids it reports back are compared with those that are trained on.
A server takes expanded ids beside processed images, whose places are told from the spans. In both, images go in the
order of their markers and in the size that the trainer's own processor feeds, so that pixel limits need not be
repeated to vLLM.
"""

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object, is_peft_model
from PIL import Image
from triptych_data.describe import unexpanded_ids
from triptych_parser import ImageSpan, Refusal

from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.step import Sampled
from triptych_trainer.prompts.prepare import PreparedPrompt, PromptPreparer

__all__ = ["Request", "RolloutMismatchError", "place_features", "request", "vllm_rollouts"]

BANNED_BIAS = -100.0
"""vLLM's lowest logit bias: a probability of e^-100."""

Completions = list[Sampled]
"""Of one prompt, in order; a log-probability that is not finite is NaN."""


class RolloutMismatchError(Refusal, RuntimeError):
    """vLLM made something else of a prompt than what is trained on; the text says where they part."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One prompt as vLLM gets it, once for all of its completions."""

    name: str
    """Where the prompt comes from, for errors."""
    ids: list[int]
    """As trained on: every image at its full length."""
    short_ids: list[int]
    """As the chat template writes it: one placeholder per image."""
    spans: tuple[ImageSpan, ...]
    images: list[Image.Image]
    """One per span, in marker order."""
    num_completions: int


def request(prompt: PreparedPrompt, preparer: PromptPreparer, *, num_completions: int) -> Request:
    """Write a prepared prompt for vLLM; its decoded images come from the preparer's loader."""
    example = prompt.example
    images = preparer.pictures(prompt)[0]
    resized = [
        image.resize((width, height), Image.Resampling.BICUBIC)
        if "image_grid_thw" in inputs and image.size != (width, height)
        else image
        for image, inputs, (height, width) in zip(images, prompt.image_inputs, prompt.model_sizes, strict=True)
    ]
    short_ids = list(prompt.ids)
    if prompt.spans:
        short_ids = unexpanded_ids(example, model=preparer.model, settings=preparer.settings)
    return Request(
        name=f"{example.source}: example {example.id}",
        ids=list(prompt.ids),
        short_ids=short_ids,
        spans=prompt.spans,
        images=[resized[span.image] for span in prompt.spans],
        num_completions=num_completions,
    )


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
    bias = {**(backend.generation_kwargs.get("logit_bias") or {}), **dict.fromkeys(banned_ids, BANNED_BIAS)}
    options = {**backend.generation_kwargs, "logit_bias": bias}
    if backend.mode == "server":
        return _from_server(backend, requests, options=options, profiler=profiler or nullcontext())
    if sampling_params is None:
        sampling_params = importlib.import_module("vllm").SamplingParams
    return _from_engine(
        backend, requests, options=options, profiler=profiler or nullcontext(), sampling_params=sampling_params
    )


def _common(backend: Any) -> dict[str, Any]:
    return {
        "repetition_penalty": backend.repetition_penalty,
        "temperature": backend.temperature,
        "top_p": backend.top_p,
        "top_k": backend.top_k,
        "min_p": 0.0 if backend.min_p is None else backend.min_p,
        "max_tokens": backend.max_completion_length,
        "logprobs": backend.logprobs,
    }


def _from_server(
    backend: Any, requests: Sequence[Request], *, options: Mapping[str, Any], profiler: AbstractContextManager[Any]
) -> list[Completions]:
    """All ranks' requests go through the main process; every rank gets its own results back."""
    sizes = gather_object([len(requests)])
    everyone = gather_object(list(requests))
    payload: list[Any] = [None]
    if backend.accelerator.is_main_process:
        with profiler:
            payload = [_ask_server(backend.vllm_client, backend, everyone, options=options)]
    broadcast_object_list(payload, from_process=0)
    first = sum(sizes[: backend.accelerator.process_index])
    return list(payload[0][first : first + len(requests)])


def _ask_server(
    client: Any, backend: Any, requests: Sequence[Request], *, options: Mapping[str, Any]
) -> list[Completions]:
    """The completions of every request. One call per number of completions."""
    results: dict[int, Completions] = {}
    for n in sorted({one.num_completions for one in requests}):
        chosen = [k for k, one in enumerate(requests) if one.num_completions == n]
        features = None
        if any(requests[k].images for k in chosen):
            found = client.image_features([requests[k].images or None for k in chosen])
            features = [place_features(part, requests[k]) for k, part in zip(chosen, found, strict=True)]
        output = client.generate(
            prompts=[requests[k].ids for k in chosen],
            features=features,
            n=n,
            structured_outputs_regex=backend.structured_outputs_regex,
            generation_kwargs=dict(options),
            **_common(backend),
        )
        sampled = [
            Sampled(ids=ids, logps=[_known(token[0]) for token in row])
            for ids, row in zip(output["completion_ids"], output["logprobs"], strict=True)
        ]
        for place, k in enumerate(chosen):
            results[k] = sampled[place * n : (place + 1) * n]
    return [results[k] for k in range(len(requests))]


def place_features(features: dict[str, Any] | None, one: Request) -> dict[str, Any] | None:
    """Put the server's processed images at the spans of the prompt that is trained on.

    The server counts an image either with the tokens around it, or its placeholders alone; both are told by length.
    Which of the counted tokens get a feature row is said by ``is_embed``, or all of them do.

    Raises:
        RolloutMismatchError: an image has another number of tokens there than here, or the server does not say which of
            them get a feature row.
    """
    if features is None:
        return None
    known = features["mm_placeholders"]["image"]
    if len(known) != len(one.spans):
        raise RolloutMismatchError(f"{one.name}: {len(one.spans)} images were sent, the server processed {len(known)}")
    placed = []
    for k, (place, span) in enumerate(zip(known, one.spans, strict=True)):
        first, last = span.runs[0], span.runs[-1]
        starts = {span.length: span.start, last[0] + last[1] - first[0]: first[0]}
        if place["length"] not in starts:
            raise RolloutMismatchError(
                f"{one.name}: image {k + 1} takes {place['length']} tokens on the vLLM server and {span.num_features} "
                "here; start the server with the same model revision and without own pixel limits"
            )
        marked = place.get("is_embed")
        num_rows = place["length"] if marked is None else sum(marked)
        if num_rows != span.num_features:
            raise RolloutMismatchError(
                f"{one.name}: image {k + 1} has {span.num_features} feature rows among {place['length']} tokens, and "
                f"the vLLM server marks {num_rows} of these (it leaves out is_embed: vllm-project/vllm#54548); "
                "take --vllm_mode colocate for this model"
            )
        placed.append({**place, "offset": starts[place["length"]]})
    return {**features, "mm_placeholders": {**features["mm_placeholders"], "image": placed}}


def _from_engine(
    backend: Any,
    requests: Sequence[Request],
    *,
    options: Mapping[str, Any],
    profiler: AbstractContextManager[Any],
    sampling_params: Callable[..., Any],
) -> list[Completions]:
    """Each group of tensor-parallel ranks runs the requests of all of its ranks; a rank keeps its own results."""
    everyone, first = list(requests), 0
    if backend.tensor_parallel_size > 1:
        gathered: list[Any] = [None] * backend.tensor_parallel_size
        torch.distributed.all_gather_object(gathered, list(requests), group=backend.tp_group)
        everyone = [one for part in gathered for one in part]
        first = sum(len(part) for part in gathered[: torch.distributed.get_rank(group=backend.tp_group)])
    if backend.enable_sleep_mode:
        if backend._llm_weights_sleeping:
            backend.sync_weights()  # sleeping discards them
        backend.llm.wake_up(tags=["kv_cache"])
    common = {**_common(backend), **_structured(backend, options)}
    if backend.tensor_parallel_size > 1 and is_peft_model(backend.model):
        # As TRL does: the short all-reduce of adapters can still be under way, and vLLM's collectives hang (TRL #3671).
        torch.distributed.barrier(device_ids=[backend.accelerator.local_process_index])
    with profiler:
        outputs = backend.llm.generate(
            [_engine_prompt(one) for one in everyone],
            sampling_params=[_sampling(sampling_params, common, one.num_completions) for one in everyone],
            use_tqdm=False,
        )
    if backend.enable_sleep_mode:
        backend.llm.sleep(level=2)
        backend._llm_weights_sleeping = True
    mine = slice(first, first + len(requests))
    return [_read(output, one) for output, one in zip(outputs[mine], requests, strict=True)]


def _sampling(sampling_params: Callable[..., Any], options: Mapping[str, Any], num_completions: int) -> Any:
    try:
        return sampling_params(**options, n=num_completions)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--generation_kwargs: vLLM refuses them: {' '.join(str(error).split())}") from error


def _structured(backend: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    given = {"regex": backend.structured_outputs_regex} if backend.structured_outputs_regex else None
    given = given or options.get("structured_outputs")
    if not isinstance(given, dict):
        return dict(options)
    outputs = importlib.import_module("vllm.sampling_params").StructuredOutputsParams
    return {**options, "structured_outputs": outputs(**given)}


def _engine_prompt(one: Request) -> dict[str, Any]:
    prompt: dict[str, Any] = {"prompt_token_ids": one.short_ids}
    return {**prompt, "multi_modal_data": {"image": one.images}} if one.images else prompt


def _read(output: Any, one: Request) -> Completions:
    """Check that the engine expanded the prompt as it is trained on; sampled tokens come first in every entry."""
    got = list(output.prompt_token_ids)
    if got != one.ids:
        same = (a == b for a, b in zip(got, one.ids, strict=False))
        part = next((k for k, equal in enumerate(same) if not equal), min(len(got), len(one.ids)))
        raise RolloutMismatchError(
            f"{one.name}: vLLM's prompt has {len(got)} tokens and differs from token {part} on, the trainer's has "
            f"{len(one.ids)}; both need the same model revision, processor and pixel limits"
        )
    return [
        Sampled(
            ids=list(row.token_ids),
            logps=[_known(places[token].logprob) for token, places in zip(row.token_ids, row.logprobs, strict=True)],
        )
        for row in sorted(output.outputs, key=lambda completion: completion.index)
    ]


def _known(logprob: float | None) -> float:
    return math.nan if logprob is None else logprob
