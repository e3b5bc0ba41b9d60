"""Packed rows of several groups without masks against the masked attention of every token, values and gradients."""

import pytest
import torch
from triptych_trainer.forward.layout import Group
from triptych_trainer.forward.varlen_attention import segment_calls, varlen_attention

CPU = torch.device("cpu")
GROUPS = {
    "one group": [(7, (4, 1, 6))],
    "several groups": [(7, (4, 1, 6)), (3, (2,)), (5, (3, 3))],
    "no prompt, no branch, an empty branch": [(0, (3, 2)), (4, ()), (6, (2, 0, 3))],
}


def groups_of(lengths):
    start, groups = 0, []
    for prefix, branches in lengths:
        groups.append(Group(start=start, prefix=prefix, branches=branches))
        start = groups[-1].end
    return groups


def masked(query, key, value, groups, *, window, scaling):
    """One softmax under one mask over the whole row."""
    total = key.shape[2]
    seen = torch.zeros(total, total, dtype=torch.bool)
    for group in groups:
        prompt = list(range(group.start, group.start + group.prefix))
        for first, length in [(group.start, group.prefix), *zip(group.branch_starts, group.branches, strict=True)]:
            before = [] if first == group.start and group.prefix else prompt
            for k in range(length):
                keys = [*before, *range(first, first + k + 1)]
                seen[first + k, keys if window is None else keys[-window:]] = True
    repeats = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(repeats, dim=1) for x in (key, value))
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=scaling)


@pytest.mark.parametrize("branches_only", [False, True])
@pytest.mark.parametrize("window", [None, 1, 4, 100])
@pytest.mark.parametrize("name", GROUPS)
def test_equals_masked_attention_and_its_gradients(name, window, branches_only):
    groups = groups_of(GROUPS[name])
    total = groups[-1].end
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, total, 8, generator=generator, dtype=torch.float64)
    key, value = torch.randn(2, 1, 2, total, 8, generator=generator, dtype=torch.float64)
    is_query = torch.ones(total, dtype=torch.bool)
    for group in groups if branches_only else []:
        is_query[group.start : group.start + group.prefix] = False
    upstream = torch.randn(query.shape, generator=generator, dtype=torch.float64)[:, :, is_query]
    calls = segment_calls(groups, branches_only=branches_only, window=window, device=CPU)
    results = []
    for attend in (
        lambda q, k, v: varlen_attention(q[:, :, is_query], k, v, calls, scaling=0.3),
        lambda q, k, v: masked(q, k, v, groups, window=window, scaling=0.3)[:, :, is_query],
    ):
        leaves = [x.clone().requires_grad_() for x in (query, key, value)]
        out = attend(*leaves)
        out.backward(upstream)
        results.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_one_group_takes_views_and_two_calls():
    calls = segment_calls(groups_of(GROUPS["one group"]), branches_only=False, window=None, device=CPU)
    own, shared = calls.own.segments, calls.shared.segments
    assert (calls.own.queries, calls.own.keys) == (slice(0, 18), slice(0, 18))
    assert own.starts_q.tolist() == own.starts_k.tolist() == [0, 7, 11, 12, 18]
    assert (calls.shared.queries, calls.shared.keys) == (slice(7, 18), slice(0, 7))
    assert (shared.starts_q.tolist(), shared.starts_k.tolist()) == ([0, 11], [0, 7])
    assert own.causal
    assert not shared.causal


def test_a_window_takes_one_call_over_the_end_of_the_prompt():
    calls = segment_calls(groups_of(GROUPS["one group"]), branches_only=True, window=4, device=CPU)
    assert calls.shared is None
    assert calls.own.segments.starts_k.tolist() == [0, 7, 11, 20]
    assert calls.own.keys.tolist() == [4, 5, 6, 7, 8, 9, 10, 4, 5, 6, 11, 4, 5, 6, 12, 13, 14, 15, 16, 17]
