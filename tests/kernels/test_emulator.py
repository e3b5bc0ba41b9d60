"""The CUDA thread programs, walked on the host, give the bits of the CPU kernels for every dtype and launch shape."""

from collections.abc import Callable

import pytest
import torch
from triptych_kernels import MergePlan, _native
from triptych_kernels.checks import DTYPES
from triptych_kernels.launch import row_bytes, row_stride_bytes

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


def test_embed_and_merge(plan: MergePlan, dtype: torch.dtype, num_columns: int, place: Callable, randn: Randn) -> None:
    weight_VD, features_ND = (
        place(randn(5, num_columns, dtype=dtype)),
        place(randn(plan.num_features, num_columns, dtype=dtype)),
    )
    ids = torch.arange(plan.src.numel()) % 5
    out = place(randn(*plan.shape, num_columns, dtype=dtype).fill_(torch.nan))
    table = (weight_VD.data_ptr(), row_stride_bytes(weight_VD), 5, ids.data_ptr())
    args = (
        *table,
        features_ND.data_ptr(),
        row_bytes(weight_VD),
        plan.index.data_ptr(),
        ids.numel(),
        row_bytes(weight_VD),
    )
    from_cpu = both("embed_and_merge", out, args)
    assert not from_cpu.isnan().any()


def test_merge(plan: MergePlan, dtype: torch.dtype, num_columns: int, place: Callable, randn: Randn) -> None:
    embeds, features_ND = (
        place(randn(*plan.shape, num_columns, dtype=dtype)),
        place(randn(plan.num_features, num_columns, dtype=dtype)),
    )
    num_rows = plan.src.numel()
    features = (features_ND.data_ptr(), row_bytes(features_ND), plan.index.data_ptr(), num_rows)
    out = place(torch.full_like(embeds, torch.nan))
    from_cpu = both("merge", out, (embeds.data_ptr(), *features, row_bytes(embeds), False))
    assert not from_cpu.isnan().any()
    from_cpu = both("merge_in_place", embeds, (*features, plan.num_features, row_bytes(embeds)))
    assert torch.equal(bits(from_cpu), bits(out))


def test_merge_add(plan: MergePlan, dtype: torch.dtype, num_columns: int, place: Callable, randn: Randn) -> None:
    hidden, features_ND = (
        place(randn(*plan.shape, num_columns, dtype=dtype)),
        place(randn(plan.num_features, num_columns, dtype=dtype)),
    )
    num_rows = plan.src.numel()
    features = (features_ND.data_ptr(), row_bytes(features_ND), plan.index.data_ptr(), num_rows)
    out = place(torch.full_like(hidden, torch.nan))
    from_cpu = both("merge_add", out, (hidden.data_ptr(), *features, num_columns, DTYPES[dtype]))
    assert not from_cpu.isnan().any()
    args = (*features, plan.num_features, num_columns, DTYPES[dtype])
    from_cpu = both("merge_add_in_place", hidden, args)
    assert torch.equal(bits(from_cpu), bits(out))


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


@pytest.mark.parametrize("bad_id", [5, -1, 2**40])
def test_a_text_id_outside_the_table_is_nan(bad_id: int, dtype: torch.dtype, randn: Randn) -> None:
    """The device does not wait to look, so the row shows it."""
    weight_VD, features_ND = randn(5, 16, dtype=dtype), randn(2, 16, dtype=dtype)
    plan = MergePlan.from_spans((4,), [(0, 1, 2, 0)], num_features=2)
    ids = torch.tensor([3, bad_id, bad_id, bad_id])
    out = torch.zeros(4, 16, dtype=dtype)
    args = (weight_VD.data_ptr(), row_bytes(weight_VD), 5, ids.data_ptr(), features_ND.data_ptr(), row_bytes(weight_VD))
    _native.emulator.embed_and_merge(out.data_ptr(), *args, plan.index.data_ptr(), 4, row_bytes(out), 2, 32)
    assert torch.equal(out[:3], torch.stack([weight_VD[3], features_ND[0], features_ND[1]]))
    assert out[3].isnan().all()


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_every_16_bit_value_survives_conversion(half: torch.dtype) -> None:
    values = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(half)
    expected = (values.float() + values.float()).to(half)
    plan = MergePlan.from_src(torch.tensor([0, 0]), num_features=1)
    grad, out = values.repeat(2, 1), torch.zeros(1, 65536, dtype=half)
    args = (grad.data_ptr(), plan.index.data_ptr(), 2, 1, 65536, DTYPES[half])
    _native.emulator.features_grad(out.data_ptr(), *args, 4, 64)
    finite = ~expected.isnan()
    assert torch.equal(out[0][finite], expected[finite])
    assert out[0][~finite].isnan().all()
