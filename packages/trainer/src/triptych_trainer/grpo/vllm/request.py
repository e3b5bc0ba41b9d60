"""A prompt in the form in which vLLM takes it, and what vLLM is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image
from triptych_data.describe import unexpanded_ids
from triptych_parser import ImageSpan

from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.step import Sampled
from triptych_trainer.grpo.vllm.failures import RolloutMismatchError
from triptych_trainer.models.image_processor import resized_as_by
from triptych_trainer.prompts.prepare import PreparedPrompt, PromptPreparer
from triptych_trainer.rollouts.rollout import RolloutGroup

__all__ = [
    "Completions",
    "Request",
    "check_expanded",
    "check_lengths",
    "limit_of",
    "next_turns",
    "request",
    "sampling_options",
]

Completions = list[Sampled]
"""Of one prompt, in order; a log-probability that is not finite is NaN."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Contains one prompt as vLLM gets it, once for all of its completions."""

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
    max_tokens: int | None = None
    """The most tokens of a completion, if this is not the number of the run; ranks that ask together can differ."""
    is_resized: bool = False
    """Whether the images have the size that the tower sees, so that nothing is left to resize."""


def request(prompt: PreparedPrompt, preparer: PromptPreparer, *, num_completions: int) -> Request:
    """Write a prepared prompt for vLLM; its decoded images come from the preparer's loader."""
    example = prompt.example
    by_grid = _is_by_grid(prompt)
    pairs = zip(preparer.pictures(prompt)[0], prompt.model_sizes, strict=True)
    resized = [resized_as_by(preparer.processor, image, size) if by_grid else image for image, size in pairs]
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
        is_resized=by_grid,
    )


def next_turns(groups: Sequence[RolloutGroup], preparer: PromptPreparer, *, max_tokens: int) -> list[Request]:
    """Write rollouts that go on for vLLM: the tokens as they were sampled and written, one completion for each.

    Several rollouts of one prompt share what was written for it.
    """
    begun: dict[int, Request] = {}
    found = []
    for group in groups:
        tail, prompt = group.tail, group.prompt
        assert tail is not None, "a rollout that goes on has a prompt and tokens after it"
        own = begun.get(id(tail.prompt)) or request(tail.prompt, preparer, num_completions=1)
        begun[id(tail.prompt)] = own
        by_grid = _is_by_grid(prompt)
        later = [
            resized_as_by(preparer.processor, picture, size) if by_grid else picture for picture, size in tail.pictures
        ]
        found.append(
            replace(
                own,
                ids=list(prompt.ids),
                short_ids=[*own.short_ids, *tail.short_ids],
                spans=prompt.spans,
                images=[*own.images, *later],
                is_resized=by_grid,
                max_tokens=max_tokens,
            )
        )
    return found


def _is_by_grid(prompt: PreparedPrompt) -> bool:
    """Whether the size that the tower sees is all that the processor decides about an image."""
    return all("image_grid_thw" in inputs for inputs in prompt.image_inputs)


def sampling_options(backend: Any) -> dict[str, Any]:
    """Return the sampling parameters of the run, under the names that the engine and the server share."""
    return {
        "repetition_penalty": backend.repetition_penalty,
        "temperature": backend.temperature,
        "top_p": backend.top_p,
        "top_k": backend.top_k,
        "min_p": 0.0 if backend.min_p is None else backend.min_p,
        "max_tokens": backend.max_completion_length,
        "logprobs": backend.logprobs,
    }


def limit_of(one: Request) -> dict[str, int]:
    """Return the sampling parameter of a request that limits its completions, if it has a limit of its own."""
    return {} if one.max_tokens is None else {"max_tokens": one.max_tokens}


def check_lengths(requests: Sequence[Request], *, longest: int) -> None:
    """Check that every prompt leaves room for a token; ``longest`` is vLLM's limit of prompt and completion together.

    Raises:
        UsageError: names the row.
    """
    for one in requests:
        if len(one.ids) >= longest:
            raise UsageError(
                f"{one.name}: the prompt has {len(one.ids)} tokens, {sum(span.num_features for span in one.spans)} of "
                f"them of {len(one.spans)} images, and vLLM takes {longest} with the completion; raise "
                "--vllm_max_model_length (a server: --max-model-len), or make images smaller with "
                "--max_prompt_image_tokens"
            )


def check_expanded(one: Request, got: Sequence[int]) -> None:
    """Check that vLLM expanded a prompt as it is trained on.

    Raises:
        RolloutMismatchError: names the first token that differs.
    """
    if list(got) == one.ids:
        return
    same = (a == b for a, b in zip(got, one.ids, strict=False))
    part = next((k for k, equal in enumerate(same) if not equal), min(len(got), len(one.ids)))
    raise RolloutMismatchError(
        f"{one.name}: vLLM's prompt has {len(got)} tokens and differs from token {part} on, the trainer's has "
        f"{len(one.ids)}; both need the same model revision, processor and pixel limits (a server: "
        "--mm-processor-kwargs)"
    )
