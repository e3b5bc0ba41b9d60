"""Rows that read their prompt's keys together attend as rows that hold a copy each, and say so when they cannot."""

import pytest
import torch
import torch.nn.functional as F
from transformers import DynamicCache
from triptych_kernels import DecodeCache
from triptych_trainer.errors import IncompatibleVersionError
from triptych_trainer.forward.group_cache import GroupCache

HEADS, KV_HEADS, WIDTH = 6, 2, 8


def prefilled(*, prompts, tokens, dtype=torch.float32):
    cache = DynamicCache()
    for layer in range(2):
        cache.update(*(torch.randn(prompts, KV_HEADS, tokens, WIDTH, dtype=dtype) for _ in range(2)), layer)
    return cache


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_attention_is_that_of_rows_with_a_copy_each(dtype):
    torch.manual_seed(0)
    pads, sizes = [0, 3, 9], [2, 3, 1]  # the last prompt has one token, whose keys are not prefilled
    prompts = prefilled(prompts=3, tokens=9, dtype=dtype)
    cache = GroupCache(prompts, pads=pads, sizes=sizes, room=5)
    rows = torch.tensor([0, 0, 1, 1, 1, 2])
    own = [[], []]
    for step in range(5):
        for layer in range(2):
            query = torch.randn(len(rows), HEADS, 1, WIDTH, dtype=dtype)
            new = [torch.randn(len(rows), KV_HEADS, 1, WIDTH, dtype=dtype) for _ in range(2)]
            own[layer].append(new)
            got = cache.attend(query, *cache.update(*new, layer), scaling=0.3)
            whole = [prompts.layers[layer].keys[rows], prompts.layers[layer].values[rows]]
            keys, values = (torch.cat([whole[k], *(old[k] for old in own[layer])], dim=2) for k in range(2))
            mask = (torch.arange(keys.shape[2]) >= torch.tensor(pads)[rows, None])[:, None, None]
            expected = F.scaled_dot_product_attention(query, keys, values, mask, scale=0.3, enable_gqa=True)
            tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-6
            torch.testing.assert_close(got, expected.transpose(1, 2), atol=tolerance, rtol=tolerance)
        assert cache.get_seq_length() == 9 + step + 1
        assert isinstance(getattr(cache.layers[0], "decoded", None), DecodeCache) == (dtype != torch.float64)
        if step == 2:
            kept = torch.tensor([1, 3, 4])
            cache.leave_rows(kept)
            rows = rows[kept]
            own = [[[part[kept] for part in new] for new in layer] for layer in own]
            assert cache.sizes == [1, 2, 0]


def test_values_of_another_precision_than_keys_are_read_as_them():
    """A run of TRL's defaults on a CPU (autocast to bfloat16 inside the model) ended in a traceback."""
    torch.manual_seed(0)
    prompts, given = prefilled(prompts=1, tokens=4), []
    for dtypes in ((torch.float32,) * 3, (torch.float32, torch.float32, torch.bfloat16)):
        torch.manual_seed(1)
        mixed = DynamicCache()
        for k, layer in enumerate(prompts.layers):
            mixed.update(layer.keys, layer.values.to(torch.bfloat16).to(dtypes[2]), k)
        cache = GroupCache(mixed, pads=[0], sizes=[2], room=3)
        query, key, value = (torch.randn(2, heads, 1, WIDTH) for heads in (HEADS, KV_HEADS, KV_HEADS))
        value = value.to(torch.bfloat16).to(dtypes[2])
        given.append(cache.attend(query, *cache.update(key, value, 0), scaling=0.3))
    assert torch.equal(*given)


def test_keys_that_are_not_its_own_or_not_read_are_refused():
    cache = GroupCache(prefilled(prompts=1, tokens=4), pads=[0], sizes=[2], room=3)
    new = [torch.randn(2, KV_HEADS, 1, WIDTH) for _ in range(2)]
    keys, values = cache.update(*new, 0)
    with pytest.raises(IncompatibleVersionError, match='it got others; give the family of this model path = "plain"'):
        cache.attend(torch.randn(2, HEADS, 1, WIDTH), keys.clone(), values, scaling=None)
    cache.update(*new, 0)
    with pytest.raises(IncompatibleVersionError, match="its attention not computed by the function that reads it"):
        cache.update(*new, 1)
