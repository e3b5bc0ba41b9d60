"""Rollouts by a vLLM server, which takes expanded ids beside processed images."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from accelerate.utils import broadcast_object_list, gather_object
from triptych_parser import Refusal

from triptych_trainer.grpo.step import Sampled
from triptych_trainer.grpo.vllm.failures import RolloutMismatchError, engine_failures
from triptych_trainer.grpo.vllm.request import Completions, Request, check_lengths, known, sampling_options

__all__ = ["from_server", "place_features"]


def from_server(
    backend: Any, requests: Sequence[Request], *, options: Mapping[str, Any], profiler: AbstractContextManager[Any]
) -> list[Completions]:
    """All ranks' requests go through the main process; every rank gets its own results back."""
    sizes = gather_object([len(requests)])
    everyone = gather_object(list(requests))
    payload: list[Any] = [None]
    if backend.accelerator.is_main_process:
        try:
            with profiler:
                payload = [_ask_server(backend.vllm_client, backend, everyone, options=options)]
        except Refusal as error:  # every rank has to hear of it, or the others would wait for ever
            payload = [error]
    broadcast_object_list(payload, from_process=0)
    if isinstance(payload[0], Refusal):
        raise payload[0]
    first = sum(sizes[: backend.accelerator.process_index])
    return list(payload[0][first : first + len(requests)])


def _ask_server(
    client: Any, backend: Any, requests: Sequence[Request], *, options: Mapping[str, Any]
) -> list[Completions]:
    """The completions of every request. One call per number of completions."""
    results: dict[int, Completions] = {}
    failures = f"the vLLM server at {client.base_url}"
    with engine_failures(failures):
        longest = client.get_server_info()["model_config"]["max_model_len"]
    check_lengths(requests, longest=longest)
    for n in sorted({one.num_completions for one in requests}):
        chosen = [k for k, one in enumerate(requests) if one.num_completions == n]
        features = None
        if any(requests[k].images for k in chosen):
            with engine_failures(failures):
                found = client.image_features([requests[k].images or None for k in chosen])
            features = [place_features(part, requests[k]) for k, part in zip(chosen, found, strict=True)]
        with engine_failures(failures):
            output = client.generate(
                prompts=[requests[k].ids for k in chosen],
                features=features,
                n=n,
                structured_outputs_regex=backend.structured_outputs_regex,
                generation_kwargs=dict(options),
                **sampling_options(backend),
            )
        sampled = [
            Sampled(ids=ids, logps=[known(token[0]) for token in row])
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
                "here; start the server with the same model revision and the run's pixel limits "
                "(--mm-processor-kwargs)"
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
