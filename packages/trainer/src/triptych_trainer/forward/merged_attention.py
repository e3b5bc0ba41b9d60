"""Attention of a group's branches without masks: prefix and own keys separately, joined by their log-sum-exps.

    out_P, lse_P = softmax(Q K_P^T) V_P                     all branches at once, every score of the rectangle is used
    out_j, lse_j = softmax(Q_j K_j^T, causal) V_j           per branch; branches of one length as a batch
    lse = log(exp(lse_P) + exp(lse_j))      out = exp(lse_P - lse) out_P + exp(lse_j - lse) out_j

The backward kernels rebuild probabilities as exp(score - lse); given the joint `out` and `lse` each part yields exactly
its share of the gradients (as in ring attention, arXiv 2310.01889). CPU only: these kernels return the lse there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def can_merge(query: torch.Tensor, value: torch.Tensor, *, dropout: float) -> bool:
    """Return whether the kernels compute these tensors: on the CPU, without dropout, values as wide as keys."""
    return query.device.type == "cpu" and dropout == 0.0 and query.shape[-1] == value.shape[-1]


def merged_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    prefix: int,
    branches: Sequence[int],
    scaling: float | None,
) -> torch.Tensor:
    """Attend the branches of one group. query `[1, heads, S, d]`, key and value `[1, kv_heads, prefix + S, d]`."""
    if torch.is_autocast_enabled("cpu"):  # which knows `scaled_dot_product_attention`, but not its kernels
        dtype = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    key_P, key_S = key[:, :, :prefix], key[:, :, prefix:]
    value_P, value_S = value[:, :, :prefix], value[:, :, prefix:]
    return _Merged.apply(query, key_P, value_P, key_S, value_S, tuple(branches), scaling)


class _Merged(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key_P: torch.Tensor,
        value_P: torch.Tensor,
        key_S: torch.Tensor,
        value_S: torch.Tensor,
        branches: tuple[int, ...],
        scaling: float | None,
    ) -> torch.Tensor:
        repeats = query.shape[1] // key_P.shape[1]
        out_P, lse_P = _forward(query, _repeat(key_P, repeats), _repeat(value_P, repeats), 0.0, False, scale=scaling)
        out_S, lse_S = torch.empty_like(out_P), torch.empty_like(lse_P)
        for rows, number in _runs(branches):
            q = _fold(query[:, :, rows], number)
            k, v = (_repeat(_fold(x[:, :, rows], number), repeats) for x in (key_S, value_S))
            out, lse = _forward(q, k, v, 0.0, True, scale=scaling)
            out_S[:, :, rows], lse_S[:, :, rows] = _unfold(out), _unfold(lse)
        lse = torch.logaddexp(lse_P, lse_S)
        out = torch.lerp(out_S, out_P, (lse_P - lse).exp().unsqueeze(-1).to(out_P.dtype))
        ctx.save_for_backward(query, key_P, value_P, key_S, value_S, out, lse)
        ctx.branches, ctx.scaling = branches, scaling
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        query, key_P, value_P, key_S, value_S, out, lse = ctx.saved_tensors
        repeats = query.shape[1] // key_P.shape[1]
        grad_query, grad_key_P, grad_value_P = _backward(
            grad, query, _repeat(key_P, repeats), _repeat(value_P, repeats), out, lse, 0.0, False, scale=ctx.scaling
        )
        grad_key_S, grad_value_S = torch.zeros_like(key_S), torch.zeros_like(value_S)
        for rows, number in _runs(ctx.branches):
            g, q, o, norm = (_fold(x[:, :, rows], number) for x in (grad, query, out, lse))
            k, v = (_repeat(_fold(x[:, :, rows], number), repeats) for x in (key_S, value_S))
            grad_q, grad_k, grad_v = _backward(g, q, k, v, o, norm, 0.0, True, scale=ctx.scaling)
            grad_query[:, :, rows] += _unfold(grad_q)
            grad_key_S[:, :, rows] = _unfold(_sum_repeats(grad_k, repeats))
            grad_value_S[:, :, rows] = _unfold(_sum_repeats(grad_v, repeats))
        grad_key_P, grad_value_P = _sum_repeats(grad_key_P, repeats), _sum_repeats(grad_value_P, repeats)
        return grad_query, grad_key_P, grad_value_P, grad_key_S, grad_value_S, None, None


def _runs(branches: Sequence[int]) -> Iterator[tuple[slice, int]]:
    """Neighbouring branches of one length: their rows, and how many they are.

    >>> list(_runs([3, 3, 0, 2]))
    [(slice(0, 6, None), 2), (slice(6, 8, None), 1)]
    """
    first = 0
    for length, same in itertools.groupby(branches):
        number = len(list(same))
        if length:
            yield slice(first, first + number * length), number
        first += number * length


def _fold(x: torch.Tensor, number: int) -> torch.Tensor:
    """`[1, heads, number * C, ...]` -> `[number, heads, C, ...]`, a view."""
    return x[0].unflatten(1, (number, -1)).transpose(0, 1)


def _unfold(x: torch.Tensor) -> torch.Tensor:
    """The inverse of `_fold`."""
    return x.transpose(0, 1).flatten(1, 2).unsqueeze(0)


def _repeat(x: torch.Tensor, repeats: int) -> torch.Tensor:
    return x if repeats == 1 else x.repeat_interleave(repeats, dim=1)


def _sum_repeats(grad: torch.Tensor, repeats: int) -> torch.Tensor:
    return grad if repeats == 1 else grad.unflatten(1, (-1, repeats)).sum(2)
