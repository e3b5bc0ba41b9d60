"""Group attention against one dense softmax per token over exactly the keys it may see."""

import pytest
import torch
from triptych_trainer.errors import IncompatibleVersionError
from triptych_trainer.forward import GroupBatch, attention
from triptych_trainer.forward.attention import branch_chunks, fits_merge, group_shared_attention
from triptych_trainer.forward.layout import Group, packed_layout
from triptych_trainer.forward.merged_attention import merged_attention
from triptych_trainer.forward.shared_pass import SharedPass
from triptych_trainer.models.families import Family


def dense(query, key, value, groups, *, scaling, window):
    """One token at a time: prefix causally, a branch over its prefix and itself, no further back than the window."""
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, 1)[0], value.repeat_interleave(repeats, 1)[0]
    out = torch.zeros_like(query[0])
    for group in groups:
        rows = [(list(range(group.start, group.start + k + 1)), group.start + k) for k in range(group.prefix)]
        begin = group.start + group.prefix
        for length in group.branches:
            prefix = list(range(group.start, group.start + group.prefix))
            rows += [(prefix + list(range(begin, begin + k + 1)), begin + k) for k in range(length)]
            begin += length
        for visible, t in rows:
            visible = visible if window is None else visible[-window:]
            weights = (torch.einsum("hd,hkd->hk", query[0][:, t], key[:, visible]) * scaling).softmax(-1)
            out[:, t] = torch.einsum("hk,hkd->hd", weights, value[:, visible])
    return out.transpose(0, 1)[None]


BATCHES = {
    "ragged": GroupBatch.build([[1] * 7, [2] * 3], completions=[[[3] * 4, [3], [3] * 6], [[4] * 2]]),
    "no-prefix": GroupBatch.build([[1]], completions=[[[3] * 4, [3] * 2]]),
    "no-branch": GroupBatch.build([[1] * 5, [2] * 4], completions=[[[]], [[5] * 3]]),
    "chunked": GroupBatch.build([[1] * 40], completions=[[[3] * 30, [3] * 50, [3] * 20, [3] * 64]]),
}


@pytest.mark.parametrize("masked", [False, True], ids=["merged", "masked"])
@pytest.mark.parametrize("window", [None, 4, 5, 11])  # 5 and 11: a prompt and a branch that are one token longer
@pytest.mark.parametrize("name", BATCHES)
def test_equals_dense_attention_over_the_visible_keys(monkeypatch, name, window, masked):
    monkeypatch.setattr(attention, "MERGE_TOKENS", 10**9 if masked else 0)
    batch = BATCHES[name]
    layout = packed_layout(batch)
    shared = SharedPass(
        family=Family(),
        vision_model=torch.nn.Module(),
        batch=batch,
        layout=layout,
        ids=layout.ids.unsqueeze(0),
        places=[],
        features=None,
    )
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, len(layout.ids), 8, generator=generator, dtype=torch.float64)
    key, value = torch.randn(2, 1, 2, len(layout.ids), 8, generator=generator, dtype=torch.float64)
    got, weights = group_shared_attention(
        torch.nn.Module(), query, key, value, None, scaling=0.3, sliding_window=window, triptych_pass=shared
    )
    assert weights is None
    torch.testing.assert_close(
        got, dense(query, key, value, layout.groups, scaling=0.3, window=window), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("branches", [(4, 4, 4), (5, 0, 1, 1, 9), (300,)])
@pytest.mark.parametrize("heads", [4, 2])
def test_gradients_without_masks_are_those_of_masked_attention(branches, heads):
    group = Group(start=0, prefix=70, branches=branches)
    generator = torch.Generator().manual_seed(0)
    total = group.prefix + sum(branches)
    query = torch.randn(1, 4, sum(branches), 8, generator=generator, dtype=torch.float64)
    key, value = torch.randn(2, 1, heads, total, 8, generator=generator, dtype=torch.float64)
    ends = torch.tensor(branches).cumsum(0).tolist()
    mask = torch.zeros(sum(branches), total, dtype=torch.bool)
    mask[:, : group.prefix] = True
    for length, end in zip(branches, ends, strict=True):
        own = slice(end - length, end)
        mask[own, group.prefix + end - length : group.prefix + end] = torch.ones(
            length, length, dtype=torch.bool
        ).tril()
    upstream = torch.randn(query.shape, generator=generator, dtype=torch.float64)
    results = []
    for attend in (
        lambda q, k, v: merged_attention(q, k, v, prefix=group.prefix, branches=branches, scaling=0.3),
        lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(
            q, k.repeat_interleave(4 // heads, 1), v.repeat_interleave(4 // heads, 1), attn_mask=mask, scale=0.3
        ),
    ):
        leaves = [tensor.clone().requires_grad_() for tensor in (query, key, value)]
        out = attend(*leaves)
        out.backward(upstream)
        results.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_dropout_a_short_window_short_branches_and_no_prefix_keep_the_masks():
    group = Group(start=0, prefix=5, branches=(65, 63))
    states = torch.zeros(1, 2, 10, 4)
    fits = {"group": group, "window": None, "dropout": 0.0}
    assert fits_merge(states, states, **fits)
    assert fits_merge(states, states, **{**fits, "window": 70})
    assert not fits_merge(states, states, **{**fits, "window": 69})
    assert not fits_merge(states, states, **{**fits, "group": Group(start=0, prefix=5, branches=(65, 62))})
    assert not fits_merge(states, states, **{**fits, "dropout": 0.1})
    assert not fits_merge(states, states[..., :2], **fits)
    assert not fits_merge(states, states, **{**fits, "group": Group(start=0, prefix=0, branches=(65, 63))})


@pytest.mark.parametrize("extra", ["softcap", "sinks", "position_bias", "indices"])
def test_refuses_what_it_does_not_compute(extra):
    layout = packed_layout(BATCHES["no-prefix"])
    shared = SharedPass(
        family=Family(),
        vision_model=torch.nn.Module(),
        batch=BATCHES["no-prefix"],
        layout=layout,
        ids=layout.ids.unsqueeze(0),
        places=[],
        features=None,
    )
    states = torch.zeros(1, 1, 6, 4)
    for given in (shared, None):  # a pass without sharing would ignore it without a word
        with pytest.raises(IncompatibleVersionError, match=extra):
            group_shared_attention(torch.nn.Module(), states, states, states, None, triptych_pass=given, **{extra: 1.0})


@pytest.mark.parametrize(
    ("prefix", "branches", "expected"),
    [
        (1000, (32,) * 8, [(0, 8)]),
        (1000, (128,) * 8, [(0, 3), (3, 6), (6, 8)]),
        (10, (100, 5, 5, 70), [(0, 1), (1, 3), (3, 4)]),
        (10, (), []),
    ],
)
def test_branches_are_attended_in_chunks_of_half_the_prefix(prefix, branches, expected):
    assert list(branch_chunks(Group(start=0, prefix=prefix, branches=branches))) == expected
