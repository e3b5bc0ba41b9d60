"""Attention of segments without masks: the one place where its kernels are called, on CUDA and on the CPU.

Segment s is the queries `starts_q[s] .. starts_q[s + 1]` of `query [T, heads, d]` over the keys
`starts_k[s] .. starts_k[s + 1]` of `key` and `value` `[K, kv_heads, d]`; query heads share key heads as they are.
`attend` also returns the log-sum-exp of the scores `[heads, T]`, on CUDA in float32. `attend_backward` computes
probabilities as exp(score - log-sum-exp), so that with the output and the log-sum-exp of several calls together, each
call yields its share of the gradients.

On CUDA these are torch's flash kernels for ragged lengths. On the CPU each segment is computed by matrix products.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from triptych_trainer.upstream.torch_names import flash_backward, flash_forward, why_no_flash

__all__ = ["Segments", "attend", "attend_backward", "segments_of", "why_no_flash_kernel", "why_no_kernel"]

_LARGEST_HEAD = 256
"""Features of a head that the flash kernels of torch take; multiples of 8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """Says which queries see which keys: the k-th segment of the queries sees the k-th segment of the keys."""

    starts_q: torch.Tensor
    """`[S + 1]`, int32, on the device of the queries: where each segment begins, and where the last one ends."""
    starts_k: torch.Tensor
    longest_q: int
    longest_k: int
    num_scores: int
    """Pairs of a query and a key that it sees."""
    causal: bool
    """Whether a query sees no key after its own place, the last query being at the last key."""
    window: int | None = None
    """With `causal`, how many keys a query sees at most, its own place included."""


def segments_of(
    lengths_q: Sequence[int],
    lengths_k: Sequence[int],
    *,
    causal: bool,
    window: int | None = None,
    device: torch.device | None = None,
) -> Segments:
    """Return segments of these lengths, one after the other. All of them have queries and keys."""
    assert len(lengths_q) == len(lengths_k)
    assert min(*lengths_q, *lengths_k) > 0, "without keys the kernels return an infinite log-sum-exp"
    longest_q, longest_k = max(lengths_q), max(lengths_k)
    reach = longest_k if window is None else window
    return Segments(
        num_scores=sum(
            _num_scores(q, k, reach=reach) if causal else q * k for q, k in zip(lengths_q, lengths_k, strict=True)
        ),
        starts_q=_starts(lengths_q).to(device),
        starts_k=_starts(lengths_k).to(device),
        longest_q=longest_q,
        longest_k=longest_k,
        causal=causal,
        window=None if window is None or longest_k <= window else window,
    )


def why_no_kernel(query: torch.Tensor, value: torch.Tensor) -> str | None:
    """Return why this device's kernels cannot attend such states, as the end of a sentence, or None if they can."""
    if query.device.type == "cuda":
        return why_no_flash_kernel(query, value) or why_no_flash(query.device)
    return _unequal(query, value)


def why_no_flash_kernel(query: torch.Tensor, value: torch.Tensor) -> str | None:
    """Return why torch's flash kernels cannot attend such states on any device, or None if they can."""
    width = query.shape[-1]
    if (unequal := _unequal(query, value)) is not None:
        return unequal
    if query.dtype not in (torch.bfloat16, torch.float16):
        return (
            f"the flash kernels compute bfloat16 and float16, and the model {str(query.dtype).removeprefix('torch.')}"
        )
    if width > _LARGEST_HEAD or width % 8:
        return (
            f"the flash kernels take heads of up to {_LARGEST_HEAD} features, a multiple of 8, and these have {width}"
        )
    return None


def _unequal(query: torch.Tensor, value: torch.Tensor) -> str | None:
    if query.shape[-1] == value.shape[-1]:
        return None
    return f"its values have {value.shape[-1]} features for each head and its keys {query.shape[-1]}"


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments, *, scaling: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output `[T, heads, d]` and the log-sum-exp of the scores `[heads, T]`."""
    if query.device.type == "cpu":
        return _attend_one_by_one(query, key, value, segments, scaling=scaling)
    out, lse, *_ = flash_forward(
        *(query, key, value, *_bounds(segments)), causal=segments.causal, window=segments.window, scale=scaling
    )
    return out, lse


def attend_backward(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    segments: Segments,
    *,
    scaling: float | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of query, key and value, for an output and a log-sum-exp that may be of several calls
    together.
    """
    if query.device.type == "cpu":
        return _backward_one_by_one(grad, query, key, value, out, lse, segments, scaling=scaling)
    grads = flash_backward(
        *(grad, query, key, value, out, lse, *_bounds(segments)),
        causal=segments.causal,
        window=segments.window,
        scale=scaling,
    )
    return grads[0], grads[1], grads[2]


def _num_scores(num_queries: int, num_keys: int, *, reach: int) -> int:
    """Scores of a causal segment: the k-th query sees one key more than the one before it, and at most ``reach``."""
    growing = min(max(reach - (num_keys - num_queries) - 1, 0), num_queries)
    first = num_keys - num_queries + 1
    return growing * first + growing * (growing - 1) // 2 + (num_queries - growing) * min(reach, num_keys)


def _starts(lengths: Sequence[int]) -> torch.Tensor:
    return torch.nn.functional.pad(torch.tensor(lengths).cumsum(0), (1, 0)).int()


def _bounds(segments: Segments) -> tuple[torch.Tensor, torch.Tensor, int, int]:
    # With a longest query of 1 the kernel would fold query heads into queries, and return another log-sum-exp.
    return segments.starts_q, segments.starts_k, max(segments.longest_q, 2), segments.longest_k


def _attend_one_by_one(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments, *, scaling: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    out = torch.empty_like(query)
    lse = query.new_empty(query.shape[1], query.shape[0], dtype=_exact(query.dtype))
    for own, seen in _slices(segments):
        scores = _scores(query[own], key[seen], segments, scaling=scaling)
        lse[:, own] = scores.logsumexp(-1)
        weights = (scores - lse[:, own, None]).exp()
        out[own] = _weighted(weights, value[seen]).to(out.dtype)
    return out, lse


def _backward_one_by_one(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    segments: Segments,
    *,
    scaling: float | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    exact = _exact(query.dtype)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    grads = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
    for own, seen in _slices(segments):
        weights = (_scores(query[own], key[seen], segments, scaling=scaling) - lse[:, own, None]).exp()
        g, o = (x[own].to(exact).transpose(0, 1) for x in (grad, out))
        spread = weights * (g @ _per_query_head(value[seen], query).mT - (g * o).sum(-1, keepdim=True))
        grads[0][own] = scale * _weighted(spread, key[seen]).to(query.dtype)
        grads[1][seen] = scale * _shared(spread.mT @ query[own].to(exact).transpose(0, 1), key).to(key.dtype)
        grads[2][seen] = _shared(weights.mT @ g, value).to(value.dtype)
    return grads


def _slices(segments: Segments) -> Iterator[tuple[slice, slice]]:
    for own, seen in zip(pairwise(segments.starts_q.tolist()), pairwise(segments.starts_k.tolist()), strict=True):
        yield slice(*own), slice(*seen)


def _scores(query: torch.Tensor, key: torch.Tensor, segments: Segments, *, scaling: float | None) -> torch.Tensor:
    """Scaled scores `[heads, T, K]` of one segment, minus infinity where nothing is seen."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = scale * query.to(_exact(query.dtype)).transpose(0, 1) @ _per_query_head(key, query).mT
    if not segments.causal:
        return scores
    keys = torch.arange(len(key), device=key.device)
    last = keys[len(key) - len(query) :, None]
    seen = keys <= last
    if segments.window is not None:
        seen &= keys > last - segments.window
    return scores.masked_fill(~seen, -torch.inf)


def _weighted(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """`[heads, T, K]` times `[K, kv_heads, d]` -> `[T, heads, d]`."""
    repeats = weights.shape[0] // values.shape[1]
    return (weights @ values.to(weights.dtype).transpose(0, 1).repeat_interleave(repeats, 0)).transpose(0, 1)


def _per_query_head(states: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """`[K, kv_heads, d]` -> `[heads, K, d]`, as exact as scores are computed."""
    repeats = query.shape[1] // states.shape[1]
    return states.to(_exact(query.dtype)).transpose(0, 1).repeat_interleave(repeats, 0)


def _shared(grad: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """The gradient of every query head `[heads, K, d]` -> that of the key heads `[K, kv_heads, d]`."""
    return grad.unflatten(0, (states.shape[1], -1)).sum(1).transpose(0, 1)


def _exact(dtype: torch.dtype) -> torch.dtype:
    """In what the CPU computes: exp(score - log-sum-exp) of float32 scores loses digits where scores are large."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else torch.float64
