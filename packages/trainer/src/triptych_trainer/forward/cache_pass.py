"""The prompt forwarded once into a cache with gradients, completions on top: two calls instead of one packed row.

For models whose layers carry a state from token to token (linear attention), which a packed row would mix up, and for
groups that do not fit into memory (`two_phase_backward`):

    states_P = forward(prompt[:-1])                  once per prompt, with graph
    logps    = forward(prompt[-1], c[:-1] | states)  in slices of rows; backward into detached copies of the states
    states_P.backward(sum of their gradients)        once
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import Cache

from triptych_trainer.errors import SeamError
from triptych_trainer.forward.batch import GroupBatch
from triptych_trainer.forward.hooks import prepare
from triptych_trainer.forward.layout import padded_layout, padded_positions
from triptych_trainer.forward.merge import image_places
from triptych_trainer.forward.passes import PASS_KWARG, SharedPass
from triptych_trainer.forward.positions import prompt_positions
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
from triptych_trainer.models.families import Family, ImageFeatures
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.upstream.transformers_names import cache_argument, kept_logits, rows_of_logits

LossOfRows = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """The forwarded prompts: their cache, its states (rows = prompts), which positions are pads, what follows."""

    cache: Cache
    states: list[LayerState]
    mask: torch.Tensor
    positions: list[torch.Tensor]
    following: list[int]


def cached_logps(
    model: torch.nn.Module,
    batch: GroupBatch,
    *,
    temperature: float = 1.0,
    features: ImageFeatures | None = None,
    width: int | None = None,
    router: RouterTap | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies `[num_completions, width]` through a prompt cache with gradients."""
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
    leaves = [tuple(t.detach().requires_grad_(t.requires_grad) for t in pair) for pair in prefix.states]
    total = torch.zeros((), device=prefix.mask.device)
    for rows in torch.arange(batch.num_completions).split(rows_per_slice):
        states: list[LayerState] = [(first, second) for first, second in leaves]
        logps, entropies = forward_branches(model, batch, prefix, states, rows=rows, temperature=temperature)
        loss = loss_of(rows, logps, entropies)
        loss.backward()
        total += loss.detach()
    pairs = [
        (tensor, leaf.grad)
        for recorded, copies in zip(prefix.states, leaves, strict=True)
        for tensor, leaf in zip(recorded, copies, strict=True)
        if leaf.grad is not None
    ]
    if pairs:
        torch.autograd.backward([tensor for tensor, _ in pairs], [grad for _, grad in pairs])
    return total


def forward_prefix(
    model: torch.nn.Module, batch: GroupBatch, *, features: ImageFeatures | None, router: RouterTap | None = None
) -> Prefix:
    """Forward `prompt[:-1]` of every prompt (left-padded rows) and record keys, values and states with their graph.

    Raises:
        ValueError: reentrant gradient checkpointing, or no prompt with more than one token.
        SeamError: a model whose prompts cannot be cached.
    """
    if torch.is_grad_enabled() and uses_reentrant_checkpointing(model):
        raise ValueError(
            "a prompt cache with gradients needs gradient_checkpointing_kwargs={'use_reentrant': False}: the reentrant "
            "method cuts the cache off the graph"
        )
    family = prepare(model)
    base = unwrap(model)
    if family.path == "plain":
        raise SeamError(
            f"the prompts of {type(base).__name__} cannot be cached and completed in slices (its adapter's path is "
            "'plain'); leave --completions_per_slice out"
        )
    inner = family.vision_language_model(base)
    device = next(inner.parameters()).device
    layout = padded_layout(batch.with_completions([[()]] * len(batch.prompts)), pad_id=0)
    if layout.ids.shape[1] < 2:
        raise ValueError("no prompt has more than one token: there is nothing to share")
    positions, following = prompt_positions(family, inner, batch)
    positions_ABT = padded_positions(layout, prompt_positions=positions, next_positions=following).to(device)
    shared = SharedPass(
        family=family,
        vision_model=inner,
        batch=batch,
        layout=None,
        ids=layout.ids[:, :-1],
        places=image_places(batch, starts=[(p, p, offset) for p, offset in enumerate(layout.offsets)]),
        features=features,
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
    return Prefix(cache=cache, states=recorded_states(cache), mask=mask_PT, positions=positions, following=following)


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
    family = prepare(model)
    device = prefix.mask.device
    pairs = [(p, ids) for p, group in enumerate(batch.completions) for ids in group]
    chosen = [pairs[row] for row in rows.tolist()]
    columns = max(batch.max_completion_tokens, width or 0)
    # At least two tokens: a single one would take the in-place decoding step of recurrent layers.
    whole = router is not None  # every token of the replicated rows, also those that predict nothing
    num_tokens = max(2, max(len(ids) + whole for _, ids in chosen))
    ids_BS, mask_BS, labels_BS = _branch_tensors(batch, chosen, num_tokens=num_tokens)
    held_BS = torch.arange(num_tokens) < torch.tensor([len(ids) + 1 for _, ids in chosen])[:, None]
    seen_BS = held_BS if whole else mask_BS
    prompts_B = torch.tensor([p for p, _ in chosen])
    cache = reading_cache(prefix.cache, states, rows=prompts_B.to(device))
    keep_BS = mask_BS.clone()
    keep_BS[0, 0] = True  # never empty, so that the graph stays
    base, keep_BS = unwrap(model), keep_BS.to(device)
    with checkpointing_keeps_caches(base), recording(router, held_BS):
        logits = model(
            input_ids=ids_BS.to(device),
            attention_mask=torch.cat([prefix.mask[prompts_B.to(device)], seen_BS.to(device).long()], dim=1),
            position_ids=family.position_ids(
                _branch_positions(family, prefix, chosen, num_tokens=num_tokens).to(device)
            ),
            **cache_argument(base, cache),
            use_cache=False,
            **kept_logits(base, keep_BS),
        ).logits
    logits_KV, labels_K = rows_of_logits(base, logits, keep_BS), labels_BS.to(device)[keep_BS]
    logps_K, entropies_K = token_logps(logits_KV, labels_K, temperature=temperature)
    where = keep_BS.nonzero(as_tuple=True)
    outputs = []
    for values_K in (logps_K, entropies_K):
        grid = values_K.new_zeros(len(chosen), max(columns, num_tokens)).index_put(where, values_K)
        outputs.append(
            grid[:, :columns]
            * torch.nn.functional.pad(mask_BS, (0, grid.shape[1] - num_tokens))[:, :columns].to(device)
        )
    return outputs[0], outputs[1]


def _branch_tensors(
    batch: GroupBatch, chosen: list[tuple[int, tuple[int, ...]]], *, num_tokens: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Right-padded inputs (last prompt token, completion as far as it fits), label positions, labels; each `[B, S]`."""
    ids_BS = torch.zeros(len(chosen), num_tokens, dtype=torch.long)
    labels_BS = torch.zeros_like(ids_BS)
    mask_BS = torch.zeros_like(ids_BS, dtype=torch.bool)
    for b, (p, ids) in enumerate(chosen):
        ids_BS[b, 0] = batch.prompts[p][-1]
        if ids:
            ids_BS[b, 1 : len(ids) + 1] = torch.tensor(ids)[: num_tokens - 1]
            labels_BS[b, : len(ids)] = torch.tensor(ids)
            mask_BS[b, : len(ids)] = True
    return ids_BS, mask_BS, labels_BS


def _branch_positions(
    family: Family, prefix: Prefix, chosen: list[tuple[int, tuple[int, ...]]], *, num_tokens: int
) -> torch.Tensor:
    """Position ids `[A, B, S]`: the last prompt token's own, then counting on."""
    rows = []
    for p, _ in chosen:
        last_A1 = prefix.positions[p][:, -1:]
        following = torch.arange(prefix.following[p], prefix.following[p] + num_tokens - 1)
        rows.append(torch.cat([last_A1, following.expand(last_A1.shape[0], -1)], dim=1))
    return torch.stack(rows, dim=1)
