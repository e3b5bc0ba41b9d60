"""Keys and values of rollouts, kept from one turn to the next, so that a turn prefills only what is new.

    row after a turn       pads | prompt, sampled            the last sampled token is not in the cache yet
    next turn, kept        pads | kept                       rows that go on, moved to the right; the others are dropped
    next turn, forwarded   pads | kept | new | pads          one call for all rows, sliding windows count from the left
    what generate gets     pads | kept, new                  the rows of a whole prefill, to the token and the position

A row is recognised by its tokens and by the keys of its images, never by its place: whatever else comes is prefilled
as a whole, and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from triptych_trainer.forward.batch import GroupBatch
from triptych_trainer.forward.merge import ImagePlace, image_places
from triptych_trainer.forward.positions import BatchPositions
from triptych_trainer.forward.roomy_layer import RoomyLayer
from triptych_trainer.forward.shared_pass import PASS_KWARG, SharedPass
from triptych_trainer.models.families import Family, ImageFeatures, TokenRows
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.upstream.transformers_names import (
    CacheLayerMixin,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionCacheLayerMixin,
    cache_argument,
    kept_logits,
)

__all__ = ["TurnCache", "why_not_kept"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeptRow:
    """One row of the cache: its tokens, and the slots that contain all but the last of them."""

    ids: tuple[int, ...]
    images: tuple[tuple[int, object], ...]
    """(first token, key) of each of its images."""
    number: int
    first: int

    @property
    def num_slots(self) -> int:
        """Tokens whose keys and values are known."""
        return len(self.ids) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Extension:
    """The call of a turn: row b has `known[b]` kept tokens up to column `width`, and `new[b]` from there."""

    known: tuple[int, ...]
    new: tuple[int, ...]
    width: int

    @property
    def num_new(self) -> int:
        """Columns of new tokens."""
        return max(self.new)

    def first(self, row: int) -> int:
        """The column of a row's first token."""
        return self.width - self.known[row]


class TurnCache:
    """Keeps what the rows of the last call of `shared_generate` computed; the next call takes it."""

    def __init__(self) -> None:
        self.tokens_prefilled = 0
        """Tokens forwarded before sampling began, pads left out."""
        self.rows_prefilled_again = 0
        """Rollouts of which nothing was kept when they went on, once for each turn."""
        self._rows: list[_KeptRow] = []
        self._cache: DynamicCache | None = None
        self._has_begun = False

    def begin(self) -> None:
        """Drop what is kept, because the next call begins new rollouts."""
        self._rows, self._cache, self._has_begun = [], None, False

    def counts_since(self) -> tuple[int, int]:
        """Return `tokens_prefilled` and `rows_prefilled_again` since the last time that they were asked for."""
        counts = (self.tokens_prefilled, self.rows_prefilled_again)
        self.tokens_prefilled = self.rows_prefilled_again = 0
        return counts

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept: before the first call, and where nothing can be."""
        return self._cache is None

    def count_whole(self, batch: GroupBatch) -> None:
        """Count a call that prefilled all of its prompts."""
        self.tokens_prefilled += sum(len(ids) - 1 for ids in batch.prompts)
        self.rows_prefilled_again += len(batch.prompts) if self._has_begun else 0
        self._has_begun = True

    def keep(
        self,
        cache: DynamicCache | None,
        batch: GroupBatch,
        *,
        mask_BT: torch.Tensor,
        group_sizes: Sequence[int],
        sampled: Sequence[Sequence[int]],
    ) -> None:
        """Keep the cache of a finished `generate`, whose row b is a prompt after pads, and `sampled[b]`."""
        prompts = [p for p, size in enumerate(group_sizes) for _ in range(size)]
        firsts = (mask_BT == 0).sum(dim=1).tolist()
        self._cache = cache
        self._rows = [
            _KeptRow(ids=(*batch.prompts[p], *ids), images=_images(batch, p), number=b, first=first)
            for b, (p, ids, first) in enumerate(zip(prompts, sampled, firsts, strict=True))
        ]

    def take(self, batch: GroupBatch) -> tuple[DynamicCache, _Extension]:
        """Return the kept part of every prompt of `batch`, in rows of their own; nothing is kept afterwards."""
        cache, kept = self._cache, self._rows
        assert cache is not None
        self._cache, self._rows = None, []
        found = [_match(kept, ids, _images(batch, p)) for p, ids in enumerate(batch.prompts)]
        known = tuple(0 if row is None else row.num_slots for row in found)
        width = max(known)
        rows = [(0, 0, 0) if row is None else (row.number, row.first, row.num_slots) for row in found]
        _move(cache, rows, width=width)
        self.rows_prefilled_again += sum(row is None for row in found)
        new = tuple(len(ids) - 1 - length for ids, length in zip(batch.prompts, known, strict=True))
        return cache, _Extension(known=known, new=new, width=width)

    def extend(
        self,
        model: torch.nn.Module,
        family: Family,
        *,
        batch: GroupBatch,
        positions: BatchPositions,
        features: ImageFeatures | None,
    ) -> DynamicCache:
        """Return a cache of all but the last token of every prompt: what was kept, and the rest forwarded."""
        cache, extension = self.take(batch)
        self.tokens_prefilled += sum(extension.new)
        if extension.num_new:
            _forward(
                model, family, batch=batch, extension=extension, positions=positions, cache=cache, features=features
            )
        if len(set(extension.new)) > 1:  # the shorter ones have pads after them
            rows = [(b, extension.first(b), len(ids) - 1) for b, ids in enumerate(batch.prompts)]
            _move(cache, rows, width=max(len(ids) for ids in batch.prompts) - 1)
        return cache


def why_not_kept(family: Family, model: torch.nn.Module) -> str | None:
    """Return why nothing of a rollout can be kept between its turns, as the end of a sentence, or None if it can."""
    if not family.prefills:
        return "every token of its prompt sees the whole prompt"
    if family.generate_counts_pads:
        return "its `generate` counts the pads before a row, which are others at every turn"
    text_config = model.config.get_text_config(decoder=True)
    if getattr(text_config, "attention_chunk_size", None) is not None:
        return "its attention is cut into chunks"
    for layer in DynamicCache(config=text_config).layers:
        if isinstance(layer, LinearAttentionCacheLayerMixin):
            return "a layer carries a state from token to token, which cannot be cut back to a rollout's last one"
        if isinstance(layer, CacheLayerMixin) and type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer):
            return f"it caches in a {type(layer).__name__}"
    return None


def uncut_cache(text_config: Any) -> DynamicCache:
    """Return an empty cache with room for decoded tokens, whose sliding layers keep all keys as well: a layer that is
    cut to its window would lose keys of padded rows.
    """
    cache = DynamicCache(config=text_config)
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    cache.layers = [RoomyLayer() if type(layer) in plain else layer for layer in cache.layers]
    return cache


def _images(batch: GroupBatch, prompt: int) -> tuple[tuple[int, object], ...]:
    """(first token, key) of each image of a prompt; images without keys are like no others."""
    keys: Sequence[object] = batch.image_keys or [object() for _ in batch.images]
    return tuple((span.start, keys[batch.image_indices[prompt][span.image]]) for span in batch.spans[prompt])


def _match(kept: Sequence[_KeptRow], ids: Sequence[int], images: Sequence[tuple[int, object]]) -> _KeptRow | None:
    """The kept row that a longer one goes on from."""
    for row in kept:
        length = len(row.ids)
        shown = tuple(image for image in images if image[0] < length)
        if length < len(ids) and row.images == shown and row.ids == tuple(ids[:length]):
            return row
    return None


def _move(cache: DynamicCache, rows: Sequence[tuple[int, int, int]], *, width: int) -> None:
    """Replace the rows of a cache: row b becomes `length` slots of row `number` from `first` on, moved to the right."""
    for layer in cache.layers:
        if getattr(layer, "keys", None) is None:  # it uses the keys of another layer
            continue
        for name in ("keys", "values"):
            old = getattr(layer, name)
            moved = old.new_zeros(len(rows), old.shape[1], width, old.shape[3])
            for b, (number, first, length) in enumerate(rows):
                moved[b, :, width - length :] = old[number, :, first : first + length]
            setattr(layer, name, moved)


def _forward(
    model: torch.nn.Module,
    family: Family,
    *,
    batch: GroupBatch,
    extension: _Extension,
    positions: BatchPositions,
    cache: DynamicCache,
    features: ImageFeatures | None,
) -> None:
    """Forward the new tokens of all rows on top of what was kept."""
    base = unwrap(model)
    inner = family.vision_language_model(base)
    device = next(inner.parameters()).device
    rows, mask_BT = _rows(batch, extension)
    width, columns = extension.width, extension.num_new
    ids_BS = rows.ids[:, width:]
    places = _new_places(batch, extension)
    shown = sorted({image for _, image, _, _ in places})  # the others are in the cache already
    shared = SharedPass(
        family=family,
        vision_model=inner,
        batch=GroupBatch.build([[0]], images=[batch.images[image] for image in shown]),
        layout=None,
        ids=ids_BS,
        places=[(row, shown.index(image), runs, name) for row, image, runs, name in places],
        features=None if features is None or not shown else features.select(shown),
    )
    extras = family.forward_extras(base.config, rows if family.types_cover_cache else shared.rows)
    positions_ABS = torch.zeros(positions.prompts[0].shape[0], len(batch.prompts), columns, dtype=torch.long)
    for b, (known, new) in enumerate(zip(extension.known, extension.new, strict=True)):
        positions_ABS[:, b, :new] = positions.prompts[b][:, known : known + new]
    model(
        input_ids=ids_BS.to(device),
        attention_mask=mask_BT.to(device),
        position_ids=family.position_ids(positions_ABS.to(device)),
        **cache_argument(base, cache),
        use_cache=True,
        **kept_logits(base, torch.tensor([columns - 1], device=device)),
        **{PASS_KWARG: shared},
        **{name: values.to(device) for name, values in extras.items()},
    )


def _rows(batch: GroupBatch, extension: _Extension) -> tuple[TokenRows, torch.Tensor]:
    """The token rows of kept and new tokens `[B, width + S]`, and which of them are no pads."""
    shape = (len(batch.prompts), extension.width + extension.num_new)
    ids_BT = torch.zeros(shape, dtype=torch.long)
    mask_BT, images_BT = torch.zeros_like(ids_BT), torch.zeros(shape, dtype=torch.bool)
    for b, ids in enumerate(batch.prompts):
        first = extension.first(b)
        ids_BT[b, first : first + len(ids) - 1] = torch.tensor(ids[:-1])
        mask_BT[b, first : first + len(ids) - 1] = 1
        for start, length in (run for span in batch.spans[b] for run in span.runs):
            images_BT[b, first + start : first + start + length] = True
    rows = TokenRows(ids=ids_BT, images=images_BT, completions=torch.zeros_like(images_BT), packed=False)
    return rows, mask_BT


def _new_places(batch: GroupBatch, extension: _Extension) -> list[ImagePlace]:
    """The places of the images among the new tokens; an image is kept whole or not at all."""
    starts = [(b, b, -known) for b, known in enumerate(extension.known)]
    return [place for place in image_places(batch, starts=starts) if all(start >= 0 for start, _ in place[2])]
