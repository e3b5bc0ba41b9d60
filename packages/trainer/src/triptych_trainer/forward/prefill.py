"""Prompts forwarded once, all but their last tokens, into a cache from which sampling goes on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from transformers import DynamicCache

from triptych_trainer.forward.batch import BatchError, GroupBatch
from triptych_trainer.forward.hooks import install_hooks
from triptych_trainer.forward.layout import PaddedLayout, padded_layout, padded_positions
from triptych_trainer.forward.merge import image_places
from triptych_trainer.forward.positions import batch_positions
from triptych_trainer.forward.shared_pass import PASS_KWARG, SharedPass
from triptych_trainer.forward.turn_cache import TurnCache, uncut_cache, why_not_kept
from triptych_trainer.models.families import Family, ImageFeatures
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.upstream.transformers_names import cache_argument, kept_logits

__all__ = ["OnPrefill", "Prefilled", "prefilled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefilled:
    """Contains P prompts whose keys and values are known, one row each."""

    family: Family
    vision_language_model: torch.nn.Module
    layout: PaddedLayout
    positions_ABT: torch.Tensor
    next_minus_length_P: torch.Tensor
    """Position of the first new token minus the number of the prompt's tokens."""
    cache: DynamicCache | None
    """Of all but the last token of each prompt; None where that is nothing."""

    @property
    def text(self) -> torch.nn.Module:
        """The text backbone."""
        return self.family.language_model(self.vision_language_model)

    def pick(self, prompts: Sequence[int]) -> Prefilled:
        """Take some of the prompts, with copies of their keys, values and states."""
        rows_P = torch.tensor(prompts)
        device = self.positions_ABT.device
        layout = replace(
            self.layout,
            ids=self.layout.ids[rows_P],
            mask=self.layout.mask[rows_P],
            offsets=tuple(self.layout.offsets[p] for p in prompts),
            prompt_of_row=tuple(range(len(prompts))),
            completion_of_row=(0,) * len(prompts),
            scored=self.layout.scored[rows_P],
        )
        return replace(
            self,
            layout=layout,
            positions_ABT=self.positions_ABT[:, rows_P.to(device)],
            next_minus_length_P=self.next_minus_length_P[rows_P],
            cache=None if self.cache is None else _rows_of_cache(self.cache, rows_P.to(device)),
        )


OnPrefill = Callable[[torch.nn.Module, GroupBatch, Prefilled], None]
"""Is given the model as it generates, a batch, and the prefilled prompts of that batch."""


def _rows_of_cache(cache: DynamicCache, rows: torch.Tensor) -> DynamicCache:
    """A cache of some rows that shares no tensor with the one that it is made of."""
    picked = copy.copy(cache)
    picked.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in picked.layers:
        vars(layer).update({k: copy.copy(v) for k, v in vars(layer).items() if isinstance(v, (list, dict))})
    picked.reorder_cache(rows)
    return picked


def prefilled(
    model: torch.nn.Module,
    batch: GroupBatch,
    *,
    features: ImageFeatures | None,
    pad_id: int,
    turns: TurnCache | None = None,
) -> Prefilled:
    """Prefill every prompt of a batch, each once, in left-padded rows; with `turns` only what it does not know."""
    family = install_hooks(model)
    inner = family.vision_language_model(unwrap(model))
    device = next(inner.parameters()).device
    layout = padded_layout(batch.with_completions([[()]] * len(batch.prompts)), pad_id=pad_id)
    positions = batch_positions(family, inner, batch)
    positions_ABT = padded_positions(layout, positions)
    if family.generate_counts_pads:  # the cache has to fit the positions with which `generate` goes on
        positions_ABT += torch.tensor(layout.offsets)[:, None]
    positions_ABT = positions_ABT.to(device)
    if turns is not None and not turns.is_empty:
        cache: DynamicCache | None = turns.extend(model, family, batch=batch, positions=positions, features=features)
    else:
        cache = prefill(
            model,
            family,
            batch=batch,
            layout=layout,
            positions_ABT=positions_ABT,
            features=features,
            uncut=turns is not None and why_not_kept(family, unwrap(model)) is None,
        )
        if turns is not None:
            turns.count_whole(batch)
    return Prefilled(
        family=family,
        vision_language_model=inner,
        layout=layout,
        positions_ABT=positions_ABT,
        next_minus_length_P=torch.tensor(
            [after - len(ids) for after, ids in zip(positions.following, batch.prompts, strict=True)]
        ),
        cache=cache,
    )


def prefill(
    model: torch.nn.Module,
    family: Family,
    *,
    batch: GroupBatch,
    layout: PaddedLayout,
    positions_ABT: torch.Tensor,
    features: ImageFeatures | None,
    uncut: bool = False,
) -> DynamicCache | None:
    """Return a cache of all but the last token of every prompt, or None if that is nothing.

    With `uncut` layers with a sliding window keep every key, too.
    """
    if layout.ids.shape[1] == 1:
        if batch.images:
            raise BatchError("a prompt of one token cannot contain an image")
        return None
    base = unwrap(model)
    device = positions_ABT.device
    shared = SharedPass(
        family=family,
        vision_model=family.vision_language_model(base),
        batch=batch,
        layout=None,
        ids=layout.ids[:, :-1],
        places=image_places(batch, starts=[(p, p, offset) for p, offset in enumerate(layout.offsets)]),
        features=features,
    )
    text_config = base.config.get_text_config(decoder=True)
    cache = uncut_cache(text_config) if uncut else DynamicCache(config=text_config)
    model(
        input_ids=layout.ids[:, :-1].to(device),
        attention_mask=layout.mask[:, :-1].to(device),
        position_ids=family.position_ids(positions_ABT[:, :, :-1]),
        **cache_argument(base, cache),
        use_cache=True,
        **kept_logits(base, torch.tensor([layout.ids.shape[1] - 2], device=device)),
        **{PASS_KWARG: shared},
        **shared.extras(base.config, device=device),
    )
    if cache.get_seq_length() == 0:
        raise RuntimeError(
            "the prompt's keys were not kept: gradient checkpointing drops caches in training mode; disable it "
            "while generating (gradient_checkpointing_disable(), or trl's unwrap_model_for_generation) or call eval()"
        )
    return cache
