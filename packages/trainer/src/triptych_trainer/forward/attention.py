"""Attention over the packed row of `layout`: every branch sees its own prompt and itself, nothing else.

For branch j of a group with prefix keys K_P and its own keys K_j (logical position = index in prompt + completion):

    out[prefix] = softmax(Q_P K_P^T, causal) V_P                        one causal rectangle
    out[branch] = softmax([Q_j K_P^T | Q_j K_j^T, causal]) [V_P | V_j]  see below

On CUDA all groups are attended in two calls without masks (`varlen_attention`, chosen by `attention_choice`). On the
CPU long branches are attended without a mask (`merged_attention`). Short ones, and all with dropout or with a window
that cuts them, are masked rectangles, several branches at a time; so are branches on CUDA in half a dozen cases:
float32, dropout, attention sinks, images that see both ways, values of another width than keys, heads above 256.
Prompt and branches of a group are neighbours in the row, so the keys of a group are a view, not a copy.
Decoding by groups brings its own cache, which attends (`group_cache`). Without either in the keyword arguments the
function is transformers' own SDPA attention: plain passes and other models of the process are untouched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface

from triptych_trainer.errors import IncompatibleVersionError
from triptych_trainer.forward.attention_choice import uses_segments
from triptych_trainer.forward.group_cache import GroupCache
from triptych_trainer.forward.layout import Group
from triptych_trainer.forward.merged_attention import can_merge, merged_attention
from triptych_trainer.forward.shared_pass import SharedPass
from triptych_trainer.forward.sinks import attention_with_sinks
from triptych_trainer.forward.varlen_attention import varlen_attention
from triptych_trainer.upstream.transformers_names import sdpa_attention_forward, sdpa_mask

IMPLEMENTATION = "group_shared"
_MIN_CHUNK_TOKENS = 64
_NOT_COMPUTED = ("softcap", "position_bias", "sinks", "indices", "block_indices", "score_mod")
"""Arguments of attention functions that change what is computed, and that neither this one nor SDPA computes."""
MERGE_TOKENS = 64
"""Mean length from which branches are worth a kernel call each: calls cost more than masks at 32, less at 128."""


def register_attention() -> None:
    """Make `attn_implementation="group_shared"` known to transformers; a second call changes nothing."""
    AttentionInterface.register(IMPLEMENTATION, group_shared_attention)
    AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)


def group_shared_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    triptych_pass: SharedPass | None = None,
    triptych_decode: GroupCache | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within groups. query `[1, heads, T, d]`, key and value `[1, kv_heads, T, d]` -> `[1, T, heads, d]`."""
    _check_arguments(module, kwargs)
    if triptych_decode is not None:
        return triptych_decode.attend(query, key, value, scaling=scaling), None
    sinks: torch.Tensor | None = kwargs.get("s_aux")
    if triptych_pass is None or triptych_pass.layout is None:
        if sinks is None:
            return sdpa_attention_forward(
                module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
            )
        return _with_sinks(query, key, value, attention_mask, sinks=sinks, dropout=dropout, scaling=scaling), None
    window: int | None = kwargs.get("sliding_window")
    choice = (
        triptych_pass.attention if sinks is None and _has_causal_branches(triptych_pass, window=window) else "masked"
    )
    if uses_segments(query, key, value, choice=choice, window=window, dropout=dropout, scaling=scaling):
        found = _in_segments(query, key, value, triptych_pass, window=window, scaling=scaling)
        return found.transpose(1, 2).contiguous(), None
    outputs: list[torch.Tensor] = []
    known = 0  # tokens of prompts so far that have keys here and no queries
    for index, group in enumerate(triptych_pass.layout.groups):
        if triptych_pass.prompts_known:
            known += group.prefix
        elif group.prefix:
            rows = slice(group.start, group.start + group.prefix)
            mask = triptych_pass.prefix_mask(index, window=window, device=query.device)
            q, k, v = query[:, :, rows], key[:, :, rows], value[:, :, rows]
            outputs.append(_attend(q, k, v, sinks, mask=mask, is_causal=mask is None, dropout=dropout, scaling=scaling))
        causal = triptych_pass.branch_attention(index, window=window) == "causal"
        merges = sinks is None and causal and sum(group.branches) > 0 and triptych_pass.attention != "masked"
        if merges and fits_merge(query, value, group=group, window=window, dropout=dropout):
            start = group.start + group.prefix
            own, whole = slice(start, start + sum(group.branches)), slice(group.start, start + sum(group.branches))
            q, k, v = query[:, :, own.start - known : own.stop - known], key[:, :, whole], value[:, :, whole]
            outputs.append(merged_attention(q, k, v, prefix=group.prefix, branches=group.branches, scaling=scaling))
            continue
        for first, last in branch_chunks(group):
            q, k, v = _chunk(query, key, value, group=group, first=first, last=last, known=known)
            mask = triptych_pass.branch_mask(index, first=first, last=last, window=window, device=query.device)
            outputs.append(_attend(q, k, v, sinks, mask=mask, is_causal=False, dropout=dropout, scaling=scaling))
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def _with_sinks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    *,
    sinks: torch.Tensor,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    """Attention of a call without a shared pass: `[B, S, heads, d]`."""
    is_causal = mask is None and query.shape[2] > 1
    if is_causal:
        key, value = key[:, :, : query.shape[2]], value[:, :, : query.shape[2]]
    output = attention_with_sinks(
        query, key, value, sinks=sinks, mask=mask, is_causal=is_causal, dropout=dropout, scaling=scaling
    )
    return output.transpose(1, 2).contiguous()


def _has_causal_branches(shared: SharedPass, *, window: int | None) -> bool:
    """Whether some group has a branch, and no image in a branch is seen both ways."""
    assert shared.layout is not None
    groups = shared.layout.groups
    causal = all(shared.branch_attention(index, window=window) == "causal" for index in range(len(groups)))
    return causal and any(sum(group.branches) for group in groups)


def _in_segments(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    shared: SharedPass,
    *,
    window: int | None,
    scaling: float | None,
) -> torch.Tensor:
    """Attend all groups without masks; prompts whose images see both ways keep theirs. `[1, heads, S, d]`."""
    assert shared.layout is not None
    by_mask = not shared.prompts_known and shared.prompts_need_masks(window=window)
    plan = shared.segments(branches_only=by_mask or shared.prompts_known, window=window, device=query.device)
    if not by_mask:
        return varlen_attention(query, key, value, plan, scaling=scaling)
    groups = shared.layout.groups
    own = torch.cat([query[:, :, group.start + group.prefix : group.end] for group in groups], dim=2)
    branches = varlen_attention(own, key, value, plan, scaling=scaling)
    outputs: list[torch.Tensor] = []
    for index, group in enumerate(groups):
        rows = slice(group.start, group.start + group.prefix)
        q, k, v = query[:, :, rows], key[:, :, rows], value[:, :, rows]
        mask = shared.prefix_mask(index, window=window, device=query.device)
        outputs.append(_attend(q, k, v, None, mask=mask, is_causal=mask is None, dropout=0.0, scaling=scaling))
        tokens = sum(group.branches)
        outputs.append(branches[:, :, :tokens])
        branches = branches[:, :, tokens:]
    return torch.cat([part.to(query.dtype) for part in outputs], dim=2)


def _check_arguments(module: torch.nn.Module, kwargs: Mapping[str, Any]) -> None:
    """Refuse what would change the result and is not computed here."""
    for extra in _NOT_COMPUTED:
        if kwargs.get(extra) is not None:
            raise IncompatibleVersionError(
                f"the attention of {type(module).__name__} takes {extra!r}, which Triptych's does not compute; "
                'give the family of this model path = "plain" (docs/add-a-family.md)'
            )


def fits_merge(query: torch.Tensor, value: torch.Tensor, *, group: Group, window: int | None, dropout: float) -> bool:
    """Return whether the branches need no mask, are long enough, and the kernels compute what is asked."""
    reaches = window is None or group.prefix + max(group.branches) <= window
    long = sum(group.branches) >= MERGE_TOKENS * len(group.branches)
    return bool(group.prefix) and reaches and long and can_merge(query, value, dropout=dropout)


def branch_chunks(group: Group) -> Iterator[tuple[int, int]]:
    """Split the branches of a group so that a chunk's own keys stay under half of the prefix's.

    Attending m branches at once wastes the masked branch-to-branch scores, attending one at a time copies the prefix
    keys once per branch; this bound keeps the waste under a third and the copies under about twice the branch tokens.
    """
    budget = max(group.prefix // 2, _MIN_CHUNK_TOKENS)
    first = tokens = 0
    for j, length in enumerate(group.branches):
        if tokens and tokens + length > budget:
            yield first, j
            first, tokens = j, 0
        tokens += length
    if tokens:
        yield first, len(group.branches)


def _chunk(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, group: Group, first: int, last: int, known: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    prefix = slice(group.start, group.start + group.prefix)
    begin = prefix.stop + sum(group.branches[:first])
    own = slice(begin, begin + sum(group.branches[first:last]))
    query = query[:, :, own.start - known : own.stop - known]
    if first == 0:
        whole = slice(prefix.start, own.stop)
        return query, key[:, :, whole], value[:, :, whole]
    keys = torch.cat([key[:, :, prefix], key[:, :, own]], dim=2)
    values = torch.cat([value[:, :, prefix], value[:, :, own]], dim=2)
    return query, keys, values


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    sinks: torch.Tensor | None,
    *,
    mask: torch.Tensor | None,
    is_causal: bool,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    if sinks is not None:
        return attention_with_sinks(
            query, key, value, sinks=sinks, mask=mask, is_causal=is_causal, dropout=dropout, scaling=scaling
        )
    repeats = query.shape[1] // key.shape[1]
    grouped = repeats > 1 and (mask is None or query.device.type == "cpu")
    if repeats > 1 and not grouped:  # masked grouped heads would fall back to the slow math kernel on CUDA
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=is_causal, scale=scaling, enable_gqa=grouped
    )
