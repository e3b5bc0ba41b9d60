"""The CUDA kernels on a CUDA device; `make gpu-check` runs these."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from triptych_kernels import MergePlan, embed_and_merge, merge, merge_add, reference, unavailable_reason
from triptych_kernels.ops.gradients import features_grad

Randn = Callable[..., torch.Tensor]
REASON = unavailable_reason()

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

SANITIZED = """
import torch
from triptych_kernels import MergePlan, embed_and_merge, merge, merge_add
plan = MergePlan.from_spans((2, 40), [(0, 3, 20, 0), (1, 9, 20, 0)], num_features=20).to("cuda")
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    for columns in (7, 64, 1032):
        features = torch.ones(20, columns, dtype=dtype, device="cuda", requires_grad=True)
        weight = torch.ones(9, columns, dtype=dtype, device="cuda", requires_grad=True)
        ids = torch.arange(80, device="cuda").view(2, 40) % 9
        rows = embed_and_merge(weight, ids, features, plan)
        rows = merge_add(merge(rows, features, plan), features, plan)
        rows.backward(torch.ones_like(rows))
        with torch.no_grad():
            merge(rows, features, plan, out=rows)
            merge_add(rows, features, plan, out=rows)
torch.cuda.synchronize()
"""


def all_ops(weight_VD: torch.Tensor, ids: torch.Tensor, features_ND: torch.Tensor, plan: MergePlan) -> torch.Tensor:
    rows = embed_and_merge(weight_VD, ids, features_ND, plan)
    return merge_add(merge(rows, features_ND, plan), features_ND, plan)


@pytest.fixture
def sync_debug_mode() -> Iterator[None]:
    """Puts the mode back, also after a failure."""
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(params=[1, 7, 64, 514, 2048, 3584], ids="D{}".format)
def num_columns(request: pytest.FixtureRequest) -> int:
    return request.param


def test_every_op_equals_the_cpu(plan: MergePlan, dtype: torch.dtype, num_columns: int, randn: Randn) -> None:
    """Forward and all gradients, to the bit, which the CPU tests hold against the reference."""
    ids = torch.arange(plan.src.numel()).view(plan.shape) % 5
    values = randn(5, num_columns, dtype=dtype), randn(plan.num_features, num_columns, dtype=dtype)
    grad = randn(*plan.shape, num_columns, dtype=dtype)
    results = []
    for device in ("cpu", "cuda"):
        weight_VD, features_ND = (value.to(device).requires_grad_() for value in values)
        rows = embed_and_merge(weight_VD, ids.to(device), features_ND, plan.to(device))
        rows.backward(grad.to(device))
        embeds = grad.to(device).requires_grad_()
        deep_ND = features_ND.detach().requires_grad_()
        added = merge_add(merge(embeds, deep_ND, plan.to(device)), deep_ND, plan.to(device))
        added.backward(grad.to(device))
        results.append([rows, features_ND.grad, added, embeds.grad, deep_ND.grad, weight_VD.grad])
    for on_cpu, on_gpu in zip(*(result[:-1] for result in results), strict=True):
        assert torch.equal(on_gpu.cpu(), on_cpu)
    # torch's own embedding backward adds in another order on the two devices.
    torch.testing.assert_close(results[1][-1].cpu(), results[0][-1], rtol=0.05, atol=0.05)


def test_weight_gradient_is_bit_equal_to_torchs(plan: MergePlan, dtype: torch.dtype, randn: Randn) -> None:
    """torch's lookup of a placeholder id that stands nowhere else, whose rows are then overwritten."""
    ids = (torch.arange(plan.src.numel()).view(plan.shape) % 4).masked_fill(plan.src >= 0, 4).cuda()
    weight_VD, features_ND = randn(5, 64, dtype=dtype).cuda(), randn(plan.num_features, 64, dtype=dtype).cuda()
    grad, plan = randn(*plan.shape, 64, dtype=dtype).cuda(), plan.to("cuda")
    ours, theirs = weight_VD.clone().requires_grad_(), weight_VD.clone().requires_grad_()
    embed_and_merge(ours, ids, features_ND, plan).backward(grad)
    reference.merge(torch.nn.functional.embedding(ids, theirs), features_ND, plan).backward(grad)
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("op", [merge, merge_add])
def test_in_place_and_into_a_buffer(plan: MergePlan, dtype: torch.dtype, op: Callable, randn: Randn) -> None:
    rows, features_ND = randn(*plan.shape, 33, dtype=dtype).cuda(), randn(plan.num_features, 33, dtype=dtype).cuda()
    plan = plan.to("cuda")
    expected = op(rows, features_ND, plan)
    assert torch.equal(op(rows, features_ND, plan, out=torch.full_like(rows, torch.nan)), expected)
    assert torch.equal(op(rows, features_ND, plan, out=rows), expected)


def large(randn: Randn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, MergePlan]:
    runs = [(row, 100 * k + 7, 90, 90 * k) for row in range(8) for k in range(5)]
    plan = MergePlan.from_spans((8, 512), runs, num_features=450).to("cuda")
    ids = torch.randint(0, 100, (8, 512)).cuda()
    return randn(100, 2048, dtype=torch.bfloat16).cuda(), ids, randn(450, 2048, dtype=torch.bfloat16).cuda(), plan


def test_the_host_never_waits(randn: Randn, sync_debug_mode: None) -> None:
    weight_VD, ids, features_ND, plan = large(randn)
    features_ND.requires_grad_()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    rows = all_ops(weight_VD, ids, features_ND, plan)
    rows.backward(torch.ones_like(rows))


def test_twenty_runs_give_the_same_bits(randn: Randn) -> None:
    weight_VD, ids, features_ND, plan = large(randn)
    grad = randn(8, 512, 2048, dtype=torch.bfloat16).cuda()
    first = all_ops(weight_VD, ids, features_ND, plan), features_grad(grad, plan.index, 450)
    for _ in range(19):
        again = all_ops(weight_VD, ids, features_ND, plan), features_grad(grad, plan.index, 450)
        assert all(torch.equal(left, right) for left, right in zip(first, again, strict=True))


def test_captured_in_a_cuda_graph(randn: Randn) -> None:
    weight_VD, ids, features_ND, plan = large(randn)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        all_ops(weight_VD, ids, features_ND, plan)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        rows = all_ops(weight_VD, ids, features_ND, plan)
    features_ND.mul_(-2)
    graph.replay()
    assert torch.equal(rows, all_ops(weight_VD, ids, features_ND, plan))


def test_two_streams_do_not_mix(randn: Randn) -> None:
    weight_VD, ids, features_ND, plan = large(randn)
    expected = [all_ops(weight_VD, ids, features_ND * k, plan) for k in range(2)]
    inputs = [features_ND * k for k in range(2)]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in range(2)]
    results: list[list[torch.Tensor]] = [[], []]
    for _ in range(20):
        for k, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                results[k].append(all_ops(weight_VD, ids, inputs[k], plan))
    torch.cuda.synchronize()
    for k in range(2):
        assert all(torch.equal(result, expected[k]) for result in results[k])


def test_forward_needs_no_more_memory_than_its_result(randn: Randn) -> None:
    weight_VD, ids, features_ND, plan = large(randn)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    rows = embed_and_merge(weight_VD, ids, features_ND, plan)
    torch.cuda.synchronize()
    assert torch.cuda.max_memory_allocated() - before <= 1.05 * rows.numel() * rows.element_size()


def test_an_id_outside_the_table_is_nan_without_waiting(randn: Randn) -> None:
    weight_VD, ids, features_ND, plan = large(randn)
    ids[3, 0] = 100
    rows = embed_and_merge(weight_VD, ids, features_ND, plan)
    assert rows[3, 0].isnan().all()
    assert rows.isnan().any(-1).sum() == 1


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_mixed_devices_are_named(device: str, randn: Randn) -> None:
    plan = MergePlan.from_spans((4,), [(0, 1, 2, 0)], num_features=2).to(device)
    other = "cpu" if device == "cuda" else "cuda"
    with pytest.raises(ValueError, match=rf"embeds is on {device}.*, features is on {other}"):
        merge(randn(4, 8).to(device), randn(2, 8).to(other), plan)


def test_compiled_with_inductor(randn: Randn) -> None:
    weight_VD, ids, features_ND, plan = large(randn)
    compiled = torch.compile(all_ops, fullgraph=True)
    assert torch.equal(compiled(weight_VD, ids, features_ND, plan), all_ops(weight_VD, ids, features_ND, plan))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device")
def test_on_a_device_that_is_not_the_current_one(randn: Randn) -> None:
    weight_VD, ids, features_ND, plan = large(randn)
    expected = all_ops(weight_VD, ids, features_ND, plan)
    moved = all_ops(weight_VD.to("cuda:1"), ids.to("cuda:1"), features_ND.to("cuda:1"), plan.to("cuda:1"))
    assert torch.equal(moved.cpu(), expected.cpu())
    assert torch.cuda.current_device() == 0


@pytest.mark.skipif(shutil.which("compute-sanitizer") is None, reason="no compute-sanitizer on PATH")
@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_compute_sanitizer(tool: str) -> None:
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", SANITIZED]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
