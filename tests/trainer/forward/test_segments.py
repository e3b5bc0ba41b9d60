"""Segments against one softmax per query, their gradients against autograd, and the call of torch's flash kernels."""

import pytest
import torch
from triptych_trainer.forward.segments import Segments, attend, attend_backward, segments_of, why_no_kernel


def states(*, queries, keys, heads=4, kv_heads=2, width=8, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(queries, heads, width, generator=generator, dtype=dtype)
    return [query, *torch.randn(2, keys, kv_heads, width, generator=generator, dtype=dtype)]


def dense(query, key, value, seen, *, scaling):
    """Every query on all keys under one mask `[T, K]`; returns the output and the log-sum-exp."""
    repeats = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(repeats, dim=1) for x in (key, value))
    scores = (torch.einsum("thd,khd->htk", query, key) * scaling).masked_fill(~seen, -torch.inf)
    return torch.einsum("htk,khd->thd", scores.softmax(-1), value), scores.logsumexp(-1)


def seen_keys(lengths_q, lengths_k, *, causal, window):
    seen = torch.zeros(sum(lengths_q), sum(lengths_k), dtype=torch.bool)
    row = column = 0
    for queries, keys in zip(lengths_q, lengths_k, strict=True):
        for k in range(queries):
            last = keys - queries + k if causal else keys - 1
            first = 0 if window is None else max(last - window + 1, 0)
            seen[row + k, column + first : column + last + 1] = True
        row, column = row + queries, column + keys
    return seen


@pytest.mark.parametrize(
    ("lengths_q", "lengths_k", "causal", "window"),
    [
        ((5, 1, 3), (5, 1, 3), True, None),
        ((5, 1, 3), (7, 4, 3), True, 3),
        ((6, 2), (3, 9), False, None),
    ],
    ids=["causal", "window over more keys than queries", "all keys"],
)
def test_a_segment_sees_its_own_keys_only(lengths_q, lengths_k, causal, window):
    leaves = [x.requires_grad_() for x in states(queries=sum(lengths_q), keys=sum(lengths_k))]
    seen = seen_keys(lengths_q, lengths_k, causal=causal, window=window)
    expected, expected_lse = dense(*leaves, seen, scaling=0.3)
    grad = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected.backward(grad)
    segments = segments_of(lengths_q, lengths_k, causal=causal, window=window)
    assert segments.num_scores == seen.sum()
    with torch.no_grad():
        out, lse = attend(*leaves, segments, scaling=0.3)
        grads = attend_backward(grad, *leaves, out, lse, segments, scaling=0.3)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(lse, expected_lse, rtol=0, atol=1e-12)
    for got, leaf in zip(grads, leaves, strict=True):
        torch.testing.assert_close(got, leaf.grad, rtol=0, atol=1e-12)


def test_half_precision_is_summed_in_float32():
    query, key, value = states(queries=40, keys=40)
    segments = segments_of((40,), (40,), causal=True)
    exact, _ = attend(query, key, value, segments, scaling=None)
    got, lse = attend(*(x.bfloat16() for x in (query, key, value)), segments, scaling=None)
    assert (got.dtype, lse.dtype) == (torch.bfloat16, torch.float32)
    assert (got - exact).abs().mean() < 4e-3


@pytest.mark.parametrize("causal", [True, False])
def test_the_installed_torch_takes_the_call_of_its_flash_kernels(causal):
    """On the meta device: the op's arguments and the shapes of its results, without a number."""
    query, key, value = (x.to("meta", torch.bfloat16) for x in states(queries=9, keys=12))
    starts = torch.tensor([0, 4, 9], dtype=torch.int32, device="meta")
    segments = Segments(
        starts_q=starts, starts_k=starts, longest_q=5, longest_k=8, num_scores=0, causal=causal, window=None
    )
    out, lse = attend(query, key, value, segments, scaling=0.3)
    assert (out.shape, lse.shape, lse.dtype) == (query.shape, (4, 9), torch.float32)
    grads = attend_backward(out, query, key, value, out, lse, segments, scaling=0.3)
    assert [x.shape for x in grads] == [query.shape, key.shape, value.shape]


def test_says_what_no_kernel_computes():
    query, _, value = states(queries=2, keys=2, width=8)
    assert why_no_kernel(query, value) is None
    assert why_no_kernel(query, value[..., :4]) == "its values have 4 features for each head and its keys 8"
