"""The prompt forwarded once into a cache with gradients, completions on top: two calls instead of one packed row.

For models whose layers carry a state from token to token (linear attention), which a packed row would mix up, and for
groups that do not fit into memory (`two_phase_backward`):

    states_P = forward(prompt[:-1])                  once per prompt, with graph
    logps    = forward(prompt[-1], c[:-1] | states)  in slices of rows; backward into detached copies of the states
    states_P.backward(sum of their gradients)        once
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import Cache

from triptych_trainer.errors import IncompatibleVersionError
from triptych_trainer.forward.batch import GroupBatch
from triptych_trainer.forward.head import head_logps
from triptych_trainer.forward.hooks import install_hooks
from triptych_trainer.forward.kept import kept_at
from triptych_trainer.forward.layout import padded_layout, padded_positions
from triptych_trainer.forward.merge import image_places
from triptych_trainer.forward.positions import BatchPositions, batch_positions
from triptych_trainer.forward.prefix_cache import (
    LayerState,
    checkpointing_keeps_caches,
    reading_cache,
    recorded_states,
    recording_cache,
    uses_reentrant_checkpointing,
)
from triptych_trainer.forward.router_loss import RouterTap, recording
from triptych_trainer.forward.scoring import token_logps
from triptych_trainer.forward.shared_pass import PASS_KWARG, SharedPass
from triptych_trainer.models.families import Family, ImageFeatures, TokenRows
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.upstream.transformers_names import cache_argument, kept_logits, rows_of_logits

LossOfRows = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """Contains the forwarded prompts: their cache, its states (rows = prompts), the pads, and what follows."""

    cache: Cache
    states: list[LayerState]
    mask: torch.Tensor
    positions: BatchPositions
    rows: TokenRows
    features: ImageFeatures | None
    """Of all images of the batch, encoded once for the prompts and for the completions; None where it has none."""


def cached_logps(
    model: torch.nn.Module,
    batch: GroupBatch,
    *,
    temperature: float = 1.0,
    features: ImageFeatures | None = None,
    width: int | None = None,
    router: RouterTap | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-probabilities and entropies `[num_completions, width]` through a prompt cache with gradients."""
    prefix = forward_prefix(model, batch, features=features, router=router)
    rows = torch.arange(batch.num_completions)
    return forward_branches(
        model, batch, prefix, prefix.states, rows=rows, temperature=temperature, width=width, router=router
    )


def two_phase_backward(
    model: torch.nn.Module,
    batch: GroupBatch,
    *,
    loss_of: LossOfRows,
    rows_per_slice: int,
    temperature: float = 1.0,
    features: ImageFeatures | None = None,
) -> torch.Tensor:
    """Accumulate the gradients of a batch whose completions do not fit into memory at once; returns the loss, detached.

    `loss_of(rows, logps, entropies)` gets the row numbers of a slice and its `[rows, C]` tensors and returns that
    slice's share of the loss (a sum over its rows, already divided by what the whole loss is divided by).
    The prompt is forwarded and back-propagated once. Call it on the unwrapped model, or inside `no_sync()`.
    """
    prefix = forward_prefix(model, batch, features=features)
    leaves = [tuple(_leaf(tensor) for tensor in pair) for pair in prefix.states]
    alone = replace(prefix, features=None if prefix.features is None else _leaves(prefix.features))
    total = torch.zeros((), device=prefix.mask.device)
    for rows in torch.arange(batch.num_completions).split(rows_per_slice):
        states: list[LayerState] = [(first, second) for first, second in leaves]
        logps, entropies = forward_branches(model, batch, alone, states, rows=rows, temperature=temperature)
        loss = loss_of(rows, logps, entropies)
        loss.backward()
        total += loss.detach()
    originals = [*(tensor for pair in prefix.states for tensor in pair), *_tensors(prefix.features)]
    copies = [*(leaf for pair in leaves for leaf in pair), *_tensors(alone.features)]
    pairs = [(tensor, leaf.grad) for tensor, leaf in zip(originals, copies, strict=True) if leaf.grad is not None]
    if pairs:
        torch.autograd.backward([tensor for tensor, _ in pairs], [grad for _, grad in pairs])
    return total


def _leaf(tensor: torch.Tensor) -> torch.Tensor:
    """The same values as the beginning of a graph of its own."""
    return tensor.detach().requires_grad_(tensor.requires_grad)


def _leaves(features: ImageFeatures) -> ImageFeatures:
    return ImageFeatures(
        rows=_leaf(features.rows),
        counts=features.counts,
        deepstack=tuple(_leaf(rows_ND) for rows_ND in features.deepstack),
        common=None if features.common is None else _leaf(features.common),
    )


def _tensors(features: ImageFeatures | None) -> list[torch.Tensor]:
    if features is None:
        return []
    return [features.rows, *features.deepstack, *([] if features.common is None else [features.common])]


def forward_prefix(
    model: torch.nn.Module, batch: GroupBatch, *, features: ImageFeatures | None, router: RouterTap | None = None
) -> Prefix:
    """Forward `prompt[:-1]` of every prompt (left-padded rows) and record keys, values and states with their graph.

    Raises:
        ValueError: reentrant gradient checkpointing, or no prompt with more than one token.
        IncompatibleVersionError: a model whose prompts cannot be cached.
    """
    if torch.is_grad_enabled() and uses_reentrant_checkpointing(model):
        raise ValueError(
            "a prompt cache with gradients needs gradient_checkpointing_kwargs={'use_reentrant': False}: the reentrant "
            "method cuts the cache off the graph"
        )
    family = install_hooks(model)
    base = unwrap(model)
    if family.path == "plain":
        raise IncompatibleVersionError(
            f"the prompts of {type(base).__name__} cannot be cached and completed in slices (its adapter's path is "
            "'plain'); leave --completions_per_slice out"
        )
    inner = family.vision_language_model(base)
    device = next(inner.parameters()).device
    layout = padded_layout(batch.with_completions([[()]] * len(batch.prompts)), pad_id=0)
    if layout.ids.shape[1] < 2:
        raise ValueError("no prompt has more than one token: there is nothing to share")
    positions = batch_positions(family, inner, batch)
    positions_ABT = padded_positions(layout, positions).to(device)
    shared = SharedPass(
        family=family,
        vision_model=inner,
        batch=batch,
        layout=None,
        ids=layout.ids[:, :-1],
        places=image_places(batch, starts=layout.prompt_starts),
        features=features,
        partial=True,
    )
    cache = recording_cache(base.config.get_text_config(decoder=True))
    mask_PT = layout.mask[:, :-1].to(device)
    weights_PT = layout.mask[:, :-1] * torch.tensor(batch.group_sizes)[:, None]
    with checkpointing_keeps_caches(base), recording(router, weights_PT):
        model(
            input_ids=layout.ids[:, :-1].to(device),
            attention_mask=mask_PT,
            position_ids=family.position_ids(positions_ABT[:, :, :-1]),
            **cache_argument(base, cache),
            use_cache=False,
            **kept_logits(base, torch.tensor([layout.ids.shape[1] - 2], device=device)),
            **{PASS_KWARG: shared},
            **shared.extras(base.config, device=device),
        )
    return Prefix(
        cache=cache,
        states=recorded_states(cache),
        mask=mask_PT,
        positions=positions,
        rows=shared.rows,
        features=shared.features,
    )


def forward_branches(
    model: torch.nn.Module,
    batch: GroupBatch,
    prefix: Prefix,
    states: list[LayerState],
    *,
    rows: torch.Tensor,
    temperature: float = 1.0,
    width: int | None = None,
    router: RouterTap | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Score completions `rows` on top of `states` (the prefix's own, or detached copies)."""
    family = install_hooks(model)
    device = prefix.mask.device
    pairs = [(p, g) for p, group in enumerate(batch.completions) for g in range(len(group))]
    chosen = [pairs[row] for row in rows.tolist()]
    columns = max(batch.max_completion_tokens, width or 0)
    # At least two tokens: a single one would take the in-place decoding step of recurrent layers.
    whole = router is not None  # every token of the replicated rows, also those that predict nothing
    lengths = [len(batch.completions[p][g]) for p, g in chosen]
    num_tokens = max(2, max(length + whole for length in lengths))
    ids_BS, keep_BS, labels_BS = _branch_tensors(batch, chosen, num_tokens=num_tokens)
    ends_B1 = torch.tensor(lengths)[:, None]
    held_BS = torch.arange(num_tokens) < ends_B1 + 1
    seen_BS = held_BS if whole else torch.arange(num_tokens) < ends_B1
    scored_BS = keep_BS.clone()
    keep_BS[0, 0] = True  # never empty, so that the graph stays
    prompts_B = torch.tensor([p for p, _ in chosen])
    cache = reading_cache(prefix.cache, states, rows=prompts_B.to(device))
    base, keep_BS = unwrap(model), keep_BS.to(device)
    images = _branch_images(family, base, batch, chosen, prefix=prefix, ids_BS=ids_BS)
    positions_ABS = torch.stack([_branch_positions(prefix, p, g, num_tokens=num_tokens) for p, g in chosen], dim=1)
    call = {
        "input_ids": ids_BS.to(device),
        "attention_mask": torch.cat([prefix.mask[prompts_B.to(device)], seen_BS.to(device).long()], dim=1),
        "position_ids": family.position_ids(positions_ABS.to(device)),
        **cache_argument(base, cache),
        "use_cache": False,
        **images,
    }
    where = keep_BS.nonzero(as_tuple=True)
    scored: dict[str, Any] = {"labels_K": labels_BS.to(device)[keep_BS], "temperature": temperature}
    scored["kept_KJ"] = kept_at(batch, rows[where[0].cpu()], where[1], device=device)
    with checkpointing_keeps_caches(base), recording(router, held_BS):
        found = head_logps(model, call, keep=keep_BS, **scored)
        if found is None:
            logits_KV = rows_of_logits(base, model(**call, **kept_logits(base, keep_BS)).logits, keep_BS)
            found = token_logps(logits_KV, **scored)
    scored_BC = torch.nn.functional.pad(scored_BS, (0, max(columns - num_tokens, 0)))[:, :columns].to(device)
    grid_BC = found[0].new_zeros(len(chosen), max(columns, num_tokens))
    logps_BC, entropies_BC = (grid_BC.index_put(where, values_K)[:, :columns] * scored_BC for values_K in found)
    return logps_BC, entropies_BC


def _branch_tensors(
    batch: GroupBatch, chosen: list[tuple[int, int]], *, num_tokens: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Right-padded inputs (last prompt token, completion as far as it fits), label positions, labels; each `[B, S]`."""
    ids_BS = torch.zeros(len(chosen), num_tokens, dtype=torch.long)
    labels_BS = torch.zeros_like(ids_BS)
    mask_BS = torch.zeros_like(ids_BS, dtype=torch.bool)
    for b, (p, g) in enumerate(chosen):
        ids = batch.completions[p][g]
        ids_BS[b, 0] = batch.prompts[p][-1]
        if ids:
            ids_BS[b, 1 : len(ids) + 1] = torch.tensor(ids)[: num_tokens - 1]
            labels_BS[b, : len(ids)] = torch.tensor(ids)
            mask_BS[b, : len(ids)] = torch.tensor(batch.trained[p][g])
    return ids_BS, mask_BS, labels_BS


def _branch_positions(prefix: Prefix, prompt: int, completion: int, *, num_tokens: int) -> torch.Tensor:
    """Position ids `[A, S]` of a branch: the last prompt token's own, then those of the completion."""
    last_A1 = prefix.positions.prompts[prompt][:, -1:]
    return torch.cat([last_A1, prefix.positions.of(prompt, completion, num_tokens=num_tokens - 1)], dim=1)


def _branch_images(
    family: Family,
    base: torch.nn.Module,
    batch: GroupBatch,
    chosen: list[tuple[int, int]],
    *,
    prefix: Prefix,
    ids_BS: torch.Tensor,
) -> dict[str, Any]:
    """Further arguments of a call whose completions contain images; none where they contain none."""
    starts = [(p, g, b, 1) for b, (p, g) in enumerate(chosen)]
    places = image_places(batch, starts=[], completion_starts=starts)
    if not places:
        return {}
    shared = SharedPass(
        family=family,
        vision_model=family.vision_language_model(base),
        batch=batch,
        layout=None,
        ids=ids_BS,
        completions=torch.ones_like(ids_BS, dtype=torch.bool),
        places=places,
        features=prefix.features,
        partial=True,
    )
    rows = shared.rows
    if family.types_cover_cache:
        before = [part[[p for p, _ in chosen]] for part in (prefix.rows.ids, prefix.rows.images)]
        ids, images = (torch.cat(parts, dim=1) for parts in zip(before, (rows.ids, rows.images), strict=True))
        rows = replace(rows, ids=ids, images=images, completions=torch.zeros_like(images))
    device = prefix.mask.device
    extras = family.forward_extras(base.config, rows)
    return {PASS_KWARG: shared, **{name: values.to(device) for name, values in extras.items()}}
