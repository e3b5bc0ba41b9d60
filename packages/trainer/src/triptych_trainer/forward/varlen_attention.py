"""Attention of a packed row without masks, copies of a prompt's keys, or a call per branch: two calls for all groups.

    out_1, lse_1 = own(Q, K, V)             every prompt and every branch on its own keys, causal
    out_2, lse_2 = shared(Q_S, K_P, V_P)    the branches of a group, one after the other, on the keys of its prompt
    lse = log(exp(lse_1) + exp(lse_2))      out = exp(lse_1 - lse) out_1 + exp(lse_2 - lse) out_2      for branches

The backward pass gives the joint `out` and `lse` to the backward kernel of each call (as `merged_attention` does).
Where a sliding window cuts a branch there is one call: a branch sees the end of its prompt and itself, whose keys are
gathered. That is at most the window for each branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import torch

from triptych_trainer.forward.layout import Group
from triptych_trainer.forward.segments import Segments, attend, attend_backward, segments_of

__all__ = ["SegmentCall", "SegmentCalls", "attend_segments", "segment_calls", "varlen_attention"]

Rows: TypeAlias = slice | torch.Tensor
"""Some rows of a tensor: neighbours, which are a view, or their numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentCall:
    """Describes one call: which rows of the queries and of the keys it takes, and how they are divided."""

    queries: Rows
    keys: Rows
    segments: Segments


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentCalls:
    """Contains the calls that attend the queries of some groups."""

    own: SegmentCall
    """Of all queries; a window makes some of its keys occur several times."""
    shared: SegmentCall | None
    """None where no branch has a prompt, or where the first call sees the end of the prompts."""


def segment_calls(
    groups: Sequence[Group], *, branches_only: bool, window: int | None, device: torch.device
) -> SegmentCalls:
    """Return the calls for queries of whole groups, or of their branches alone; the keys are always of whole groups.

    `window` is how many keys a token sees at most, its own included; None where it sees all.
    """
    cut = window is not None and any(group.prefix + max(group.branches, default=0) > window for group in groups)
    own: list[tuple[int, int]] = []  # queries and keys of each segment
    shared: list[tuple[int, int]] = []
    own_keys, shared_queries, prompt_keys = [], [], []
    queries = 0
    for group in groups:
        prompt = range(group.start, group.start + group.prefix)
        if group.prefix and not branches_only:
            own.append((group.prefix, group.prefix))
            own_keys.append(prompt)
            queries += group.prefix
        tail = prompt[-(window - 1) :] if cut and window is not None and window > 1 else range(0)
        for first, length in zip(group.branch_starts, group.branches, strict=True):
            if length:
                own.append((length, length + len(tail)))
                own_keys += [tail, range(first, first + length)]
        tokens = sum(group.branches)
        if tokens and group.prefix and not cut:
            shared.append((tokens, group.prefix))
            shared_queries.append(range(queries, queries + tokens))
            prompt_keys.append(prompt)
        queries += tokens
    return SegmentCalls(
        own=_call(own, [range(queries)], own_keys, causal=True, window=window if cut else None, device=device),
        shared=_call(shared, shared_queries, prompt_keys, causal=False, window=None, device=device) if shared else None,
    )


def _call(
    lengths: Sequence[tuple[int, int]],
    queries: Sequence[range],
    keys: Sequence[range],
    *,
    causal: bool,
    window: int | None,
    device: torch.device,
) -> SegmentCall:
    lengths_q, lengths_k = zip(*lengths, strict=True)
    return SegmentCall(
        queries=_rows(queries, device=device),
        keys=_rows(keys, device=device),
        segments=segments_of(lengths_q, lengths_k, causal=causal, window=window, device=device),
    )


def varlen_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, calls: SegmentCalls, *, scaling: float | None
) -> torch.Tensor:
    """Attend query `[1, heads, S, d]` on key and value `[1, kv_heads, T, d]` -> `[1, heads, S, d]`."""
    return _attended(query, key, value, calls, scaling=scaling)


def attend_segments(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments, *, scaling: float | None
) -> torch.Tensor:
    """Attend as `varlen_attention` does, by one call over all rows."""
    call = SegmentCall(queries=slice(0, query.shape[2]), keys=slice(0, key.shape[2]), segments=segments)
    return _attended(query, key, value, SegmentCalls(own=call, shared=None), scaling=scaling)


def _attended(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, calls: SegmentCalls, *, scaling: float | None
) -> torch.Tensor:
    if torch.is_autocast_enabled(query.device.type):  # which does not know the kernels of `segments`
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    out: torch.Tensor = _Varlen.apply(query, key, value, calls, scaling)
    return out.transpose(0, 1).unsqueeze(0)


class _Varlen(torch.autograd.Function):
    """query `[S, heads, d]`, key and value `[T, kv_heads, d]` -> `[S, heads, d]`."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        calls: SegmentCalls,
        scaling: float | None,
    ) -> torch.Tensor:
        out, lse = _attend(query, key, value, calls.own, scaling=scaling)
        if calls.shared is not None:
            rows = calls.shared.queries
            out_P, lse_P = _attend(query, key, value, calls.shared, scaling=scaling)
            joint = torch.logaddexp(lse[:, rows], lse_P)
            weight = (lse_P - joint).exp().to(out.dtype).transpose(0, 1).unsqueeze(-1)
            out[rows] = torch.lerp(out[rows], out_P, weight)
            lse[:, rows] = joint
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.calls, ctx.scaling = calls, scaling
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, out, lse = ctx.saved_tensors
        calls: SegmentCalls = ctx.calls
        given = (grads[0].contiguous(), query, key, value, out, lse)
        grad_query, grad_key, grad_value = _attend_backward(*given, calls.own, scaling=ctx.scaling)
        grad_key, grad_value = (_put(x, calls.own.keys, key) for x in (grad_key, grad_value))
        if calls.shared is not None:
            parts = _attend_backward(*given, calls.shared, scaling=ctx.scaling)
            grad_query[calls.shared.queries] += parts[0]
            grad_key[calls.shared.keys] += parts[1]
            grad_value[calls.shared.keys] += parts[2]
        return grad_query, grad_key, grad_value, None, None


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: SegmentCall, *, scaling: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    keys, values = _take(key, call.keys), _take(value, call.keys)
    return attend(_take(query, call.queries), keys, values, call.segments, scaling=scaling)


def _attend_backward(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    call: SegmentCall,
    *,
    scaling: float | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of the rows of one call, for the joint output and log-sum-exp of all of them."""
    grad, query, out = (_take(x, call.queries) for x in (grad, query, out))
    keys, values, lse = _take(key, call.keys), _take(value, call.keys), lse[:, call.queries].contiguous()
    return attend_backward(grad, query, keys, values, out, lse, call.segments, scaling=scaling)


def _rows(ranges: Sequence[range], *, device: torch.device) -> Rows:
    """Neighbouring ranges as one slice, others as the numbers of their rows."""
    ranges = [part for part in ranges if len(part)]
    if all(before.stop == after.start for before, after in pairwise(ranges)):
        return slice(ranges[0].start, ranges[-1].stop)
    return torch.cat([torch.arange(part.start, part.stop) for part in ranges]).to(device)


def _take(states: torch.Tensor, rows: Rows) -> torch.Tensor:
    return states[rows] if isinstance(rows, slice) else states.index_select(0, rows)


def _put(grad: torch.Tensor, rows: Rows, states: torch.Tensor) -> torch.Tensor:
    """The gradient of all rows from that of some, which may occur several times: summed in float32, rounded once."""
    if isinstance(rows, slice):
        if rows == slice(0, len(states)):
            return grad
        whole = torch.zeros_like(states)
        whole[rows] = grad
        return whole
    exact = torch.promote_types(grad.dtype, torch.float32)
    return torch.zeros(states.shape, dtype=exact, device=grad.device).index_add_(0, rows, grad.to(exact)).to(grad.dtype)
