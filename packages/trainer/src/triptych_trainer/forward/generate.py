"""Sampling G completions per prompt with the prompt encoded and prefilled once.

Prefill `prompt[:-1]` of P prompts (left-padded rows) and let transformers' own `generate` go on from there with P * G
rows: it forwards the last prompt token and samples as it always does. The rows, positions and random numbers are those
of `generate` on the replicated prompts, and so are the tokens. Where `why_not_by_groups` knows no reason against it,
each prompt's keys and values are read by all rows of its group; otherwise its cache is repeated G times.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList

from triptych_trainer.forward.batch import BatchError, GroupBatch
from triptych_trainer.forward.group_cache import GroupCache
from triptych_trainer.forward.group_decode import decode_groups, why_not_by_groups
from triptych_trainer.forward.hooks import install_hooks
from triptych_trainer.forward.layout import padded_layout
from triptych_trainer.forward.merge import image_places
from triptych_trainer.forward.packed_weights import packed_weights
from triptych_trainer.forward.prefill import Prefilled, prefilled
from triptych_trainer.forward.prompt_graph import KeptPrompts, kept_prompts
from triptych_trainer.forward.scores import CheckFirstScores, SuppressIds
from triptych_trainer.forward.sharded import is_sharded
from triptych_trainer.forward.shared_pass import SharedPass
from triptych_trainer.forward.turn_cache import TurnCache, why_not_kept
from triptych_trainer.models.families import ImageFeatures
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.upstream.transformers_names import cache_argument


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingStart:
    """Contains what transformers' `generate` goes on from: one row for each completion."""

    ids_BT: torch.Tensor
    mask_BT: torch.Tensor
    cache: DynamicCache | GroupCache | None
    extras: dict[str, Any]
    """Further arguments of the family, and the loop that decodes by groups."""


@torch.no_grad()
def shared_generate(
    model: torch.nn.Module,
    batch: GroupBatch,
    *,
    num_generations: int | Sequence[int],
    generation_config: GenerationConfig,
    features: ImageFeatures | None = None,
    suppress_ids: tuple[int, ...] | None = None,
    turns: TurnCache | None = None,
    keep_prompts: Callable[[KeptPrompts], object] | None = None,
    begun: Prefilled | None = None,
    on_prefill: Callable[[Prefilled], object] | None = None,
    **generate_kwargs: Any,
) -> list[list[list[int]]]:
    """Generate `num_generations` completions for each prompt of `batch` (its completions are ignored).

    Ranks that share weights call this together and leave the sampling loop together, whatever their prompts are.

    Args:
        model: the unwrapped policy (inside `unwrap_model_for_generation` for sharded ones).
        num_generations: one number for all prompts, or one for each.
        features: features of `batch.images`, if they exist already; otherwise each image is encoded once here.
        suppress_ids: ids never to sample; default: every image and video id of the model's configuration.
        turns: keeps keys and values for the next call, whose prompts may go on from what was sampled now.
        keep_prompts: is called with the prompts' keys and values and their graph, where rows are decoded by groups.
        begun: the prompts of `batch` if they have been prefilled; the call takes over their cache.
        on_prefill: is called with the prefilled prompts before anything is sampled, where the family prefills.
        generate_kwargs: passed to `generate` (stopping criteria, ...).

    Returns:
        Per prompt, per completion, the sampled ids up to and including the first end-of-sequence id.
    """
    family, base = install_hooks(model), unwrap(model)
    _check_ids(base, batch, image_ids=family.image_token_ids(base.config))
    pad_id = generation_config.pad_token_id or 0
    sizes = [num_generations] * len(batch.prompts) if isinstance(num_generations, int) else list(num_generations)
    if family.prefills:
        with torch.enable_grad() if keep_prompts is not None else nullcontext():
            begun = begun or prefilled(model, batch, features=features, pad_id=pad_id, turns=turns)
        if on_prefill is not None:
            on_prefill(begun)
        start = _begin(base, begun, turns, sizes=sizes, config=generation_config, further=generate_kwargs)
    else:
        start = not_prefilled(model, batch, group_sizes=sizes, pad_id=pad_id)
    if keep_prompts is not None and (kept := kept_prompts(start.cache, features=features)) is not None:
        keep_prompts(kept)
    banned = family.image_token_ids(base.config) if suppress_ids is None else suppress_ids
    processors = _processors(generate_kwargs.pop("logits_processor", None) or [], banned=banned)
    with packed_weights(base, config=generation_config):
        output_BT = _generated(model, start, generation_config, logits_processor=processors, **generate_kwargs)
    sampled = _until_end(output_BT[:, start.ids_BT.shape[1] :], ends=_ends(base, generation_config))
    if turns is not None and why_not_kept(family, base) is None:
        # A `generate` that somebody replaced may have sampled without this cache.
        filled = start.cache is not None and start.cache.get_seq_length() >= output_BT.shape[1] - 1
        turns.keep(start.cache if filled else None, batch, mask_BT=start.mask_BT, group_sizes=sizes, sampled=sampled)
    return [list(islice(rows, size)) for rows in [iter(sampled)] for size in sizes]


def _generated(model: torch.nn.Module, start: DecodingStart, config: GenerationConfig, **further: Any) -> torch.Tensor:
    """The prompts and what transformers' `generate` samples after them, as ids [B, T]."""
    base = unwrap(model)
    with _without_own_settings(base):
        output_BT: torch.Tensor = model.generate(
            input_ids=start.ids_BT,
            attention_mask=start.mask_BT,
            **cache_argument(base, start.cache),
            generation_config=config,
            # `generate` itself does not see that accelerate's FSDP2 shards a model.
            synced_gpus=is_sharded(base) and dist.is_initialized() and dist.get_world_size() > 1,
            **start.extras,
            **further,
        )
    return output_BT


def _begin(
    base: Any,
    begun: Prefilled,
    turns: TurnCache | None,
    *,
    sizes: Sequence[int],
    config: GenerationConfig,
    further: dict[str, Any],
) -> DecodingStart:
    """Rows that go on from prefilled prompts, decoded by groups where that is possible."""
    against = turns is not None or why_not_by_groups(
        base, begun.text, cache=begun.cache, config=config, further=further
    )
    return repeated(begun, group_sizes=sizes, by_groups=not against)


def _check_ids(base: Any, batch: GroupBatch, *, image_ids: Collection[int]) -> None:
    """Check that the model has an embedding for every text token of the prompts; a CUDA device would end the process.

    Raises:
        BatchError: names the token.
    """
    num_embeddings = getattr(base.get_input_embeddings(), "num_embeddings", None)
    if not isinstance(num_embeddings, int):
        return
    for ids in batch.prompts:
        if max(ids, default=0) >= num_embeddings:
            token = next((token for token in ids if token >= num_embeddings and token not in image_ids), None)
            if token is not None:
                raise BatchError(
                    f"a prompt contains the token id {token}, and {type(base).__name__} has {num_embeddings} "
                    "embeddings; use the tokenizer that belongs to the model, or resize the model's embeddings to it"
                )


@contextmanager
def _without_own_settings(base: Any) -> Iterator[None]:
    """Keep of a model's own generation settings only its special ids.

    `generate` fills with them whatever the caller's settings leave open (`typical_p`, `num_beams`, a static cache), so
    that a model would be sampled from another distribution than its tokens are scored with.
    """
    own = base.generation_config
    kept = {name: getattr(own, name, None) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    base.generation_config = GenerationConfig(**kept)
    try:
        yield
    finally:
        base.generation_config = own


def repeated(start: Prefilled, *, group_sizes: Sequence[int], by_groups: bool) -> DecodingStart:
    """Return rows that go on from what was prefilled, `group_sizes[p]` of them for prompt p.

    They share their prompt's cache `by_groups`; otherwise it is repeated in place.
    """
    prompt_of_row = torch.arange(len(group_sizes)).repeat_interleave(torch.tensor(group_sizes))
    device = start.positions_ABT.device
    cache: DynamicCache | GroupCache | None = start.cache
    if start.cache is not None and by_groups:
        cache = GroupCache(start.cache, pads=start.layout.offsets, sizes=group_sizes)
    elif start.cache is not None and any(size != 1 for size in group_sizes):
        start.cache.reorder_cache(prompt_of_row.to(device))
    extras = start.family.continue_generation(
        start.vision_language_model, next_minus_length_B=start.next_minus_length_P[prompt_of_row].to(device)
    )
    return DecodingStart(
        ids_BT=start.layout.ids[prompt_of_row].to(device),
        mask_BT=start.layout.mask[prompt_of_row].to(device),
        cache=cache,
        extras={**extras, "custom_generate": decode_groups} if isinstance(cache, GroupCache) else extras,
    )


def not_prefilled(
    model: torch.nn.Module, batch: GroupBatch, *, group_sizes: Sequence[int], pad_id: int
) -> DecodingStart:
    """Return whole prompts, each `group_sizes[p]` times, with their images, for models in which no part of a prompt can
    be cached.
    """
    family, base = install_hooks(model), unwrap(model)
    inner = family.vision_language_model(base)
    device = next(inner.parameters()).device
    layout = padded_layout(batch.with_completions([[()]] * len(batch.prompts)), pad_id=pad_id)
    prompt_of_row = torch.arange(len(group_sizes)).repeat_interleave(torch.tensor(group_sizes))
    rows = prompt_of_row.tolist()
    shared = SharedPass(
        family=family,
        vision_model=inner,
        batch=batch,
        layout=None,
        ids=layout.ids[prompt_of_row],
        places=image_places(batch, starts=[(p, b, layout.offsets[p]) for b, p in enumerate(rows)]),
        features=None,
    )
    shown = [{name: value.to(device) for name, value in image.items()} for p in rows for image in batch.images_of(p)]
    return DecodingStart(
        ids_BT=shared.rows.ids.to(device),
        mask_BT=layout.mask[prompt_of_row].to(device),
        cache=None,
        extras={**family.stock_inputs(inner, shown), **shared.extras(base.config, device=device)},
    )


def _processors(given: Sequence[Any], *, banned: Collection[int]) -> LogitsProcessorList:
    return LogitsProcessorList([CheckFirstScores(), *given, *([SuppressIds(tuple(banned))] if banned else [])])


def _ends(base: Any, config: GenerationConfig) -> int | list[int] | None:
    """As `generate` does: what the caller left open comes from the model."""
    ends: int | list[int] | None = config.eos_token_id
    return base.generation_config.eos_token_id if ends is None else ends


def _until_end(ids_BC: torch.Tensor, *, ends: int | list[int] | None) -> list[list[int]]:
    stops = set() if ends is None else {ends} if isinstance(ends, int) else set(ends)
    rows = []
    for row in ids_BC.tolist():
        stop = next((k for k, token in enumerate(row) if token in stops), len(row) - 1)
        rows.append(row[: stop + 1])
    return rows
