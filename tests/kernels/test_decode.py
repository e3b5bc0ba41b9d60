"""Attention of sampled tokens: against a slow reference, and to the bit for other numbers of rows and of threads."""

import pytest
import torch
from triptych_kernels import DecodeCache, reference

DTYPES = [torch.float32, torch.bfloat16]


def prompts_of(randn, lengths, *, kv_heads, width, dtype=torch.float32):
    return [tuple(randn(kv_heads, length, width, dtype=dtype) for _ in range(2)) for length in lengths]


def decoded(randn, cache, *, rows, tokens, heads, kv_heads, width, dtype=torch.float32, scale=0.3):
    """The queries of the last token, the keys and values of all tokens, and what the cache found for the last."""
    own = [randn(rows, kv_heads, tokens, width, dtype=dtype) for _ in range(2)]
    for n in range(tokens):
        query = randn(rows, heads, width, dtype=dtype)
        found = cache.attend(query, own[0][:, :, n], own[1][:, :, n], scale=scale)
    return query, own, found


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "width"), [(6, 2, 64), (4, 4, 8), (7, 1, 80), (1, 1, 1), (40, 2, 33)], ids=str
)
def test_it_is_attention_to_the_prompt_and_the_own_tokens(randn, heads, kv_heads, width, dtype):
    lengths, sizes = [0, 1, 63, 64, 65, 300, 600], [1, 2, 1, 0, 3, 1, 5]
    prompts = prompts_of(randn, lengths, kv_heads=kv_heads, width=width, dtype=dtype)
    shape = {"heads": heads, "kv_heads": kv_heads, "width": width, "dtype": dtype}
    for tokens in (1, 2, 67):
        cache = DecodeCache(prompts, sizes=sizes, room=67)
        query, own, found = decoded(randn, cache, rows=sum(sizes), tokens=tokens, **shape)
        expected = reference.decode_attention(query, prompts, own, sizes=sizes, scale=0.3)
        assert found.shape == query.shape
        assert found.dtype == dtype
        tolerance = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 1e-6, "rtol": 2**-7}
        torch.testing.assert_close(found, expected, **tolerance)


def test_long_rows_have_several_parts(randn):
    prompts = prompts_of(randn, [513], kv_heads=1, width=16)
    cache = DecodeCache(prompts, sizes=[2], room=600)
    query, own, found = decoded(randn, cache, rows=2, tokens=600, heads=2, kv_heads=1, width=16)
    torch.testing.assert_close(
        found, reference.decode_attention(query, prompts, own, sizes=[2], scale=0.3), atol=1e-5, rtol=1e-5
    )


def test_a_row_has_the_same_bits_for_every_number_of_rows_and_threads(randn):
    prompts = prompts_of(randn, [700, 90], kv_heads=2, width=40)
    heads = 6
    own = [randn(11, 2, 20, 40) for _ in range(2)]
    query = randn(20, 11, heads, 40)

    def last(rows):
        of_prompt = [len([row for row in rows if row < 7]), len([row for row in rows if row >= 7])]
        cache = DecodeCache(prompts, sizes=of_prompt, room=20)
        for n in range(20):
            found = cache.attend(query[n, rows], own[0][rows, :, n], own[1][rows, :, n], scale=0.2)
        return found

    whole, threads = last(list(range(11))), torch.get_num_threads()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            for rows in ([0], [3, 6], [1, 2, 3, 4, 5, 6, 9], list(range(11))):
                assert torch.equal(last(rows), whole[rows])
    finally:
        torch.set_num_threads(threads)


def test_rows_that_leave_change_nothing_for_the_others(randn):
    prompts = prompts_of(randn, [5, 70], kv_heads=1, width=8)
    own = [randn(5, 1, 4, 8) for _ in range(2)]
    query = randn(4, 5, 2, 8)
    all_rows, fewer = (DecodeCache(prompts, sizes=[2, 3], room=4) for _ in range(2))
    rows = torch.arange(5)
    for n, kept in enumerate([[0, 1, 2, 3, 4], [1, 2, 4], [0, 2], [1]]):
        if n:
            fewer.leave_rows(torch.tensor(kept))
            rows = rows[kept]
        expected = all_rows.attend(query[n], own[0][:, :, n], own[1][:, :, n], scale=1.0)
        found = fewer.attend(query[n, rows], own[0][rows, :, n], own[1][rows, :, n], scale=1.0)
        assert torch.equal(found, expected[rows])
    assert (rows.tolist(), fewer.sizes) == ([4], [0, 1])


def test_great_and_infinite_scores_and_nan_are_as_in_a_softmax(randn):
    prompts = [(torch.tensor([[[1.0], [0.0], [-1.0]]]), torch.tensor([[[5.0], [7.0], [9.0]]]))]
    for factor, expected in ((1e4, 5.0), (-1e4, 9.0), (torch.nan, torch.nan)):
        cache = DecodeCache(prompts, sizes=[1], room=1)
        found = cache.attend(
            torch.tensor([[[factor]]]), torch.tensor([[[0.0]]]), torch.tensor([[[1.0]]]), scale=1.0
        ).item()
        assert found == expected or (found != found and expected != expected)
    cache = DecodeCache(prompts, sizes=[1], room=1)
    infinite = torch.tensor([[[torch.inf]]])
    assert cache.attend(torch.tensor([[[1.0]]]), infinite, infinite, scale=1.0).isnan().all()


def test_prompts_need_not_be_contiguous_and_have_no_gradients(randn):
    keys, values = (randn(1, 2, 90, 8).requires_grad_() for _ in range(2))
    views = [(keys[0, :, 20:], values[0, :, 20:]), (keys[0, :, :9], values[0].transpose(1, 2).contiguous().mT[:, :9])]
    copies = [tuple(part.detach().clone() for part in prompt) for prompt in views]
    args = randn(3, 4, 8), randn(3, 2, 8), randn(3, 2, 8)
    found, expected = (
        DecodeCache(prompts, sizes=[1, 2], room=2).attend(*args, scale=1.0) for prompts in (views, copies)
    )
    assert torch.equal(found, expected)
    assert not found.requires_grad


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"prompts": []}, ValueError, r"expected at least one prompt.*got 0 prompts, rows \[2\] and room for 3"),
        ({"sizes": [2, 1]}, ValueError, r"got 1 prompts, rows \[2, 1\]"),
        ({"room": 0}, ValueError, "room for at least one token, got 1 prompts, rows .* room for 0"),
        (
            {"prompts": [(torch.zeros(1, 4, 8), torch.zeros(1, 3, 8))]},
            ValueError,
            r"expected keys and values \[1, T, 8\] .*got \[1, 4, 8\] and \[1, 3, 8\] for prompt 0",
        ),
        (
            {"prompts": [(torch.zeros(1, 4, 8).half(),) * 2]},
            TypeError,
            "in float32 or bfloat16 on a CPU.*got torch.float16 on cpu for prompt 0",
        ),
        ({"prompts": [(torch.zeros(1, 4, 8, device="meta"),) * 2]}, TypeError, "got torch.float32 on meta"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(changed, error, message):
    given = {"prompts": [(torch.zeros(1, 4, 8),) * 2], "sizes": [2], "room": 3} | changed
    with pytest.raises(error, match=message):
        DecodeCache(given["prompts"], sizes=given["sizes"], room=given["room"])


def test_tokens_that_do_not_fit_are_refused():
    cache = DecodeCache([(torch.zeros(2, 4, 8),) * 2], sizes=[3], room=1)
    query, key = torch.zeros(3, 4, 8), torch.zeros(3, 2, 8)
    for bad in (
        (query[:2], key, key),
        (torch.zeros(3, 5, 8), key, key),
        (query, key, key[:, :1]),
        (query.half(), key, key),
    ):
        with pytest.raises(
            ValueError, match=r"expected a query \[3, a multiple of 2, 8\], and keys and values \[3, 2, 8\]"
        ):
            cache.attend(*bad, scale=1.0)
    assert cache.num_tokens == 0
    cache.attend(query, key, key, scale=1.0)
    with pytest.raises(ValueError, match="made for 1 tokens a row, and all have been decoded"):
        cache.attend(query, key, key, scale=1.0)
