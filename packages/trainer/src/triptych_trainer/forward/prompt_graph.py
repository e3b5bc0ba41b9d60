"""The prompt forwarded once for a step: generation prefills it with a graph, and the policy pass goes on from there.

    keys_P, values_P = forward(prompt[:-1])                    once, with graph, before sampling
    c_1 .. c_G       = sampled on detached views of them
    logps            = forward(branches | keys_P, values_P)     one packed row without the prompts' own tokens

It holds where no weight moves between the two, nothing is dropped at random, and every layer keeps all keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache

from triptych_trainer.forward.attention_choice import chosen_attention
from triptych_trainer.forward.batch import GroupBatch
from triptych_trainer.forward.choose import sharing_path
from triptych_trainer.forward.group_cache import GroupCache
from triptych_trainer.forward.layout import PackedLayout, packed_layout, packed_positions
from triptych_trainer.forward.positions import batch_positions
from triptych_trainer.forward.prefix_cache import LayerState
from triptych_trainer.forward.sharded import is_sharded
from triptych_trainer.forward.shared_pass import PASS_KWARG, SharedPass
from triptych_trainer.models.families import ImageFeatures, family_of
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.upstream.transformers_names import DynamicLayer, cache_argument

__all__ = ["KeptPrompts", "branch_call", "kept_prompts", "why_not_once"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPrompts:
    """Contains all but the last token of some prompts, forwarded with a graph."""

    states: tuple[LayerState, ...]
    """Keys and values of each layer, `[P, kv_heads, L, d]`, left-padded."""
    pads: tuple[int, ...]
    features: ImageFeatures | None
    """Of all images of these prompts."""

    def pick(self, numbers: Sequence[int]) -> KeptPrompts:
        """Return some of the prompts, in this order."""
        rows = torch.tensor(numbers)
        return KeptPrompts(
            states=tuple((keys.index_select(0, rows), values.index_select(0, rows)) for keys, values in self.states),
            pads=tuple(self.pads[number] for number in numbers),
            features=self.features,
        )


def why_not_once(model: torch.nn.Module) -> str | None:
    """Return why a policy pass cannot go on from what generation prefilled, as the end of a sentence, or None if it
    can.
    """
    base = unwrap(model)
    family = family_of(base)
    if sharing_path(base) != "packed":
        return "its prompts are not packed into one row"
    if is_sharded(base):
        return "ranks share its weights"
    text = family.language_model(family.vision_language_model(base))
    if family.takes_images and family.image_attention(text.config, window=None) != "causal":
        return "tokens of an image see each other both ways"
    drops = (m.p > 0 and m.training for m in base.modules() if isinstance(m, torch.nn.Dropout))
    if any(drops) or getattr(text.config, "attention_dropout", None):
        return "it drops values at random, anew in each pass"
    if getattr(text, "gradient_checkpointing", False):
        return "gradient checkpointing computes its layers again"
    return None


def kept_prompts(cache: Cache | None, *, features: ImageFeatures | None) -> KeptPrompts | None:
    """Return the prompts in a cache that groups are decoded on, with their graph, or None if the cache has no graph."""
    if not isinstance(cache, GroupCache):
        return None
    states = tuple((layer.prompt_keys, layer.prompt_values) for layer in cache.layers)
    if not all(tensor.requires_grad for state in states for tensor in state):
        return None
    return KeptPrompts(states=states, pads=tuple(cache.pads), features=features)


def branch_call(
    model: torch.nn.Module, batch: GroupBatch, kept: KeptPrompts
) -> tuple[dict[str, Any], PackedLayout, torch.Tensor]:
    """Return the model call over the branches alone, the layout of the whole row, and the places of its labels."""
    base = unwrap(model)
    family = family_of(base)
    inner = family.vision_language_model(base)
    device = next(inner.parameters()).device
    layout = packed_layout(batch)
    is_branch_T = torch.ones(len(layout.ids), dtype=torch.bool)
    for group in layout.groups:
        is_branch_T[group.start : group.start + group.prefix] = False
    ids_BT = layout.ids[is_branch_T].unsqueeze(0)
    positions_AT = packed_positions(layout, batch_positions(family, inner, batch))
    if family.generate_counts_pads:  # as the prompts were prefilled
        for group, pads in zip(layout.groups, kept.pads, strict=True):
            positions_AT[:, group.start : group.end] += pads
    positions_AT = positions_AT[:, is_branch_T]
    shared = SharedPass(
        family=family,
        vision_model=inner,
        batch=batch,
        layout=layout,
        ids=ids_BT,
        completions=layout.completions[is_branch_T].unsqueeze(0),
        places=[],
        features=kept.features,
        partial=True,
        prompts_known=True,
        attention=chosen_attention(family.language_model(inner)),
    )
    call = {
        "input_ids": ids_BT.to(device),
        "position_ids": family.position_ids(positions_AT.unsqueeze(1).to(device)),
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),
        **cache_argument(base, Cache(layers=[_PackedLayer(state, kept.pads, layout) for state in kept.states])),
        PASS_KWARG: shared,
        **shared.extras(base.config, device=device),
    }
    return call, layout, (is_branch_T.long().cumsum(0) - 1)[layout.label_positions]


class _PackedLayer(DynamicLayer):
    """Puts each prompt's keys in front of those of its branches; a second call gives the same again."""

    def __init__(self, state: LayerState, pads: Sequence[int], layout: PackedLayout) -> None:
        super().__init__()
        self.state, self.pads, self.layout = state, pads, layout

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> LayerState:
        """The keys and values of the whole packed row `[1, kv_heads, T, d]`."""
        return self._row(self.state[0], key_states), self._row(self.state[1], value_states)

    def _row(self, prompts: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        parts, first = [], 0
        for p, group in enumerate(self.layout.groups):
            tokens = sum(group.branches)
            parts += [prompts[p : p + 1, :, self.pads[p] :], own[:, :, first : first + tokens]]
            first += tokens
        return torch.cat(parts, dim=2)
