"""The CUDA thread programs, walked on the host, give the bits of the CPU kernels for every dtype and launch shape."""

from collections.abc import Callable

import pytest
import torch
from triptych_kernels import MergePlan, _native, reference
from triptych_kernels.checks import DTYPES
from triptych_kernels.launch import row_bytes

Randn = Callable[..., torch.Tensor]

LAUNCHES = [(1, 32), (3, 64), (7, 256)]
"""(blocks, threads per block): one warp for everything, an uneven split, more warps than rows."""


@pytest.fixture(params=["aligned", "misaligned"])
def place(request: pytest.FixtureRequest) -> Callable[[torch.Tensor], torch.Tensor]:
    """Puts a tensor at an address that is, or is not, a multiple of 16 bytes: the vector and the scalar programs."""
    offset = 0 if request.param == "aligned" else 1

    def move(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.new_empty(tensor.numel() + 32)
        start = -storage.data_ptr() % 16 // storage.element_size() + offset
        return storage[start : start + tensor.numel()].view(tensor.shape).copy_(tensor)

    return move


def both(op: str, out: torch.Tensor, args: tuple) -> torch.Tensor:
    """The CPU kernel's result over `out`, after every emulated launch over the same `out` has given the same bits."""
    start = out.clone()
    getattr(_native.cpu, op)(out.data_ptr(), *args, 1)
    from_cpu = out.clone()
    for blocks, threads in LAUNCHES:
        out.copy_(start)
        getattr(_native.emulator, op)(out.data_ptr(), *args, blocks, threads)
        assert torch.equal(bits(out), bits(from_cpu)), f"{op} as {blocks} blocks of {threads} threads"
    return from_cpu


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.uint8)


@pytest.fixture(params=[1, 7, 64, 514, 1032], ids="D{}".format)
def num_columns(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.mark.slow_except("packed-*-D7-*", "out_of_order-bfloat16-D1032-*")
def test_merge(plan: MergePlan, dtype: torch.dtype, num_columns: int, place: Callable, randn: Randn) -> None:
    embeds, features_ND = (
        place(randn(*plan.shape, num_columns, dtype=dtype)),
        place(randn(plan.num_features, num_columns, dtype=dtype)),
    )
    num_rows = plan.src.numel()
    features = (features_ND.data_ptr(), row_bytes(features_ND), plan.index.data_ptr(), num_rows)
    out = place(torch.full_like(embeds, torch.nan))
    from_cpu = both("merge", out, (embeds.data_ptr(), *features, row_bytes(embeds)))
    assert not from_cpu.isnan().any()


def test_features_between_other_columns(plan: MergePlan, dtype: torch.dtype, place: Callable, randn: Randn) -> None:
    """Rows further apart than their own length, at distances that the vector program takes and does not take."""
    for num_columns, before, after in ((64, 0, 64), (64, 8, 120), (64, 1, 6), (7, 3, 1)):
        wide_ND = place(randn(plan.num_features, before + num_columns + after, dtype=dtype))
        features_ND = wide_ND[:, before : before + num_columns]
        embeds = place(randn(*plan.shape, num_columns, dtype=dtype))
        rows = (features_ND.data_ptr(), row_bytes(wide_ND), plan.index.data_ptr(), plan.src.numel())
        out = place(torch.full_like(embeds, torch.nan))
        from_cpu = both("merge", out, (embeds.data_ptr(), *rows, row_bytes(embeds)))
        assert torch.equal(from_cpu, reference.merge(embeds, features_ND, plan))


@pytest.mark.slow_except("packed-*-D7-*", "out_of_order-bfloat16-D1032-*")
def test_gradients(plan: MergePlan, dtype: torch.dtype, num_columns: int, place: Callable, randn: Randn) -> None:
    grad = place(randn(*plan.shape, num_columns, dtype=dtype))
    out_ND = place(randn(plan.num_features, num_columns, dtype=dtype).fill_(torch.nan))
    rows = (grad.data_ptr(), plan.index.data_ptr(), plan.src.numel())
    args = (*rows, plan.num_features, num_columns, DTYPES[dtype])
    from_cpu = both("features_grad", out_ND, args)
    assert not from_cpu.isnan().any()
    out = place(torch.full_like(grad, torch.nan))
    from_cpu = both("text_grad", out, (*rows, row_bytes(grad)))
    assert not from_cpu.isnan().any()


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_every_16_bit_value_survives_conversion(half: torch.dtype, plan_of_src: Callable[..., MergePlan]) -> None:
    values = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(half)
    expected = (values.float() + values.float()).to(half)
    plan = plan_of_src([0, 0], num_features=1)
    grad, out = values.repeat(2, 1), torch.zeros(1, 65536, dtype=half)
    args = (grad.data_ptr(), plan.index.data_ptr(), 2, 1, 65536, DTYPES[half])
    _native.emulator.features_grad(out.data_ptr(), *args, 4, 64)
    finite = ~expected.isnan()
    assert torch.equal(out[0][finite], expected[finite])
    assert out[0][~finite].isnan().all()
