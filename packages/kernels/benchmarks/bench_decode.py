"""Attention of a sampled token over long rows, against torch's own; the limit is one read of all keys and values."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture
from triptych_kernels import DecodeCache, reference

GROUP, HEADS, KV_HEADS = 8, 6, 2
Call = Callable[[], torch.Tensor]


class Token:
    """The keys and values of a prompt, and of rows that have all tokens but the last; queries of one token."""

    def __init__(self, *, prompt: int, own: int, width: int, dtype: torch.dtype) -> None:
        def randn(*shape: int) -> torch.Tensor:
            return torch.randn(shape).to(dtype)

        self.scale = width**-0.5
        self.query = randn(GROUP, HEADS, width)
        self.prompt = (randn(KV_HEADS, prompt, width), randn(KV_HEADS, prompt, width))
        self.own = (randn(GROUP, KV_HEADS, own, width), randn(GROUP, KV_HEADS, own, width))


def triptych(token: Token) -> Call:
    num_tokens = token.own[0].shape[2]
    cache = DecodeCache([token.prompt], sizes=[GROUP], room=num_tokens)
    for n in range(num_tokens):
        cache.attend(token.query, *(own[:, :, n] for own in token.own), scale=token.scale)
    last = [own[:, :, -1].contiguous() for own in token.own]

    def call() -> torch.Tensor:
        cache.num_tokens = num_tokens - 1
        return cache.attend(token.query, *last, scale=token.scale)

    return call


def repeated(token: Token) -> Call:
    """As transformers decodes: a copy of the prompt in every row."""
    keys, values = (
        torch.cat([prompt.expand(GROUP, *prompt.shape), own], dim=2)
        for prompt, own in zip(token.prompt, token.own, strict=True)
    )
    query = token.query.unsqueeze(2)
    return lambda: F.scaled_dot_product_attention(query, keys, values, enable_gqa=True).squeeze(2)


def shared(token: Token) -> Call:
    """The prompt once for all rows by torch's kernel, the rows' own keys by another call, and both joined."""
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    width = token.query.shape[-1]
    grouped = token.query.view(GROUP, KV_HEADS, -1, width)
    as_one = grouped.transpose(0, 1).reshape(1, KV_HEADS, -1, width)

    def call() -> torch.Tensor:
        own, own_norm = attend(grouped, *token.own, 0.0, False)
        found, norm = attend(as_one, token.prompt[0][None], token.prompt[1][None], 0.0, False)
        found, norm = (part[0].unflatten(1, (GROUP, -1)).transpose(0, 1) for part in (found, norm))
        weight = torch.sigmoid(norm - own_norm).unsqueeze(-1).to(own.dtype)
        return torch.lerp(own, found, weight).reshape(GROUP, HEADS, width)

    return call


def read_once(token: Token) -> Call:
    return lambda: torch.stack([part.sum() for part in (*token.prompt, *token.own)])


WAYS = {"triptych": triptych, "repeated": repeated, "shared": shared, "read_once": read_once}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("own", [32, 512, 1024])
def test_token(benchmark: BenchmarkFixture, own: int, dtype: torch.dtype, way: str) -> None:
    timed = benchmark.enabled
    token = Token(prompt=1077 if timed else 100, own=own if timed else own // 16, width=64, dtype=dtype)
    benchmark.group = f"decode, prompt 1077, {own} tokens a row, {dtype}"
    benchmark.extra_info["bytes"] = sum(part.nbytes for part in (*token.prompt, *token.own))
    found = benchmark(WAYS[way](token))
    if way != "read_once":
        expected = reference.decode_attention(token.query, [token.prompt], token.own, sizes=[GROUP], scale=token.scale)
        tolerance = 1e-5 if dtype == torch.float32 else 2e-2
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
