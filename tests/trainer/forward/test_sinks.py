"""Attention sinks against the written-out softmax: values and gradients, with and without masks."""

import pytest
import torch
from triptych_trainer.forward.attention import group_shared_attention
from triptych_trainer.forward.sinks import attention_with_sinks


def written_out(query, key, value, *, sinks, mask, scaling):
    """The definition: the sink is a score of its own in the softmax, and its share is lost."""
    repeats = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(repeats, 1).transpose(-1, -2) * scaling
    scores = scores.masked_fill(~mask, -torch.inf)
    column = sinks[None, :, None, None].expand(query.shape[0], -1, query.shape[2], 1)
    weights = torch.cat([scores, column], dim=-1).softmax(-1)[..., :-1]
    return weights @ value.repeat_interleave(repeats, 1)


def states(*, queries, keys):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, queries, 8, generator=generator, dtype=torch.float64)
    key, value = torch.randn(2, 2, 2, keys, 8, generator=generator, dtype=torch.float64)
    sinks = torch.randn(4, generator=generator, dtype=torch.float64)
    return [tensor.requires_grad_() for tensor in (query, key, value, sinks)]


@pytest.mark.parametrize("kind", ["causal", "mask", "added"])
def test_equals_the_written_out_softmax(kind):
    leaves, others = states(queries=7, keys=7), states(queries=7, keys=7)
    allowed = torch.ones(7, 7, dtype=torch.bool).tril()
    if kind != "causal":
        allowed = allowed & (torch.arange(7)[None, :] > torch.arange(7)[:, None] - 3)
    mask = {"causal": None, "mask": allowed, "added": torch.zeros(7, 7).masked_fill(~allowed, -torch.inf).double()}[
        kind
    ]
    query, key, value, sinks = leaves
    got = attention_with_sinks(query, key, value, sinks=sinks, mask=mask, is_causal=mask is None, scaling=0.3)
    query, key, value, sinks = others
    expected = written_out(query, key, value, sinks=sinks, mask=allowed, scaling=0.3)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    upstream = torch.linspace(-1, 1, got.numel(), dtype=torch.float64).view_as(got)
    got.backward(upstream)
    expected.backward(upstream)
    for leaf, other in zip(leaves, others, strict=True):
        torch.testing.assert_close(leaf.grad, other.grad, rtol=0, atol=1e-12)


def test_decoding_one_token_sees_every_key_and_the_sink():
    query, key, value, sinks = states(queries=1, keys=5)
    got, _ = group_shared_attention(torch.nn.Module(), query, key, value, None, scaling=0.3, s_aux=sinks)
    expected = written_out(query, key, value, sinks=sinks, mask=torch.ones(1, 5, dtype=torch.bool), scaling=0.3)
    torch.testing.assert_close(got.transpose(1, 2), expected, rtol=0, atol=1e-12)


def test_without_a_pass_queries_do_not_see_later_keys():
    query, key, value, sinks = states(queries=5, keys=5)
    got, _ = group_shared_attention(torch.nn.Module(), query, key, value, None, scaling=0.3, s_aux=sinks)
    expected = written_out(query, key, value, sinks=sinks, mask=torch.ones(5, 5, dtype=torch.bool).tril(), scaling=0.3)
    torch.testing.assert_close(got.transpose(1, 2), expected, rtol=0, atol=1e-12)
