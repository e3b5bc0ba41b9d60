"""The CUDA kernels on a CUDA device; `make gpu-check` runs these."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from triptych_kernels import MergePlan, merge, unavailable_reason

Randn = Callable[..., torch.Tensor]
REASON = unavailable_reason()

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

SANITIZED = """
import torch
from triptych_kernels import MergePlan, merge
plan = MergePlan.from_images((2, 40), [(0, 0, [(3, 20)]), (1, 0, [(9, 20)])], features_per_image=[20]).to("cuda")
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    for columns in (7, 64, 1032):
        embeds = torch.ones(2, 40, columns, dtype=dtype, device="cuda", requires_grad=True)
        features = torch.ones(20, columns, dtype=dtype, device="cuda", requires_grad=True)
        merge(embeds, features, plan).backward(torch.ones_like(embeds))
torch.cuda.synchronize()
"""


@pytest.fixture
def sync_debug_mode() -> Iterator[None]:
    """Puts the mode back, also after a failure."""
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(params=[1, 7, 64, 514, 2048, 3584], ids="D{}".format)
def num_columns(request: pytest.FixtureRequest) -> int:
    return request.param


def test_equals_the_cpu(plan: MergePlan, dtype: torch.dtype, num_columns: int, randn: Randn) -> None:
    """Forward and both gradients, to the bit, which the CPU tests compare with the reference."""
    values = randn(*plan.shape, num_columns, dtype=dtype), randn(plan.num_features, num_columns, dtype=dtype)
    grad_BTD = randn(*plan.shape, num_columns, dtype=dtype)
    results = []
    for device in ("cpu", "cuda"):
        embeds_BTD, features_ND = (value.to(device).requires_grad_() for value in values)
        merged_BTD = merge(embeds_BTD, features_ND, plan.to(device))
        merged_BTD.backward(grad_BTD.to(device))
        results.append((merged_BTD, embeds_BTD.grad, features_ND.grad))
    for on_cpu, on_gpu in zip(*results, strict=True):
        assert torch.equal(on_gpu.cpu(), on_cpu)


def large(randn: Randn) -> tuple[torch.Tensor, torch.Tensor, MergePlan]:
    """Eight rows that share five images; bfloat16, leaves."""
    places = [(row, image, [(100 * image + 7, 90)]) for row in range(8) for image in range(5)]
    plan = MergePlan.from_images((8, 512), places, features_per_image=[90] * 5).to("cuda")
    embeds_BTD, features_ND = randn(8, 512, 2048, dtype=torch.bfloat16), randn(450, 2048, dtype=torch.bfloat16)
    return embeds_BTD.cuda().requires_grad_(), features_ND.cuda().requires_grad_(), plan


def test_the_host_never_waits(randn: Randn, sync_debug_mode: None) -> None:
    embeds_BTD, features_ND, plan = large(randn)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    merge(embeds_BTD, features_ND, plan).backward(embeds_BTD.detach())


def test_twenty_runs_give_the_same_bits(randn: Randn) -> None:
    embeds_BTD, features_ND, plan = large(randn)
    grad_BTD = randn(8, 512, 2048, dtype=torch.bfloat16).cuda()

    def run() -> tuple[torch.Tensor, ...]:
        merged_BTD = merge(embeds_BTD, features_ND, plan)
        return merged_BTD, *torch.autograd.grad(merged_BTD, (embeds_BTD, features_ND), grad_BTD)

    first = run()
    for _ in range(19):
        assert all(torch.equal(left, right) for left, right in zip(first, run(), strict=True))


@torch.no_grad()
def test_captured_in_a_cuda_graph(randn: Randn) -> None:
    embeds_BTD, features_ND, plan = large(randn)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        merge(embeds_BTD, features_ND, plan)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        merged_BTD = merge(embeds_BTD, features_ND, plan)
    features_ND.mul_(-2)
    graph.replay()
    assert torch.equal(merged_BTD, merge(embeds_BTD, features_ND, plan))


@torch.no_grad()
def test_two_streams_do_not_mix(randn: Randn) -> None:
    embeds_BTD, features_ND, plan = large(randn)
    inputs = [features_ND * k for k in range(2)]
    expected = [merge(embeds_BTD, rows_ND, plan) for rows_ND in inputs]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in range(2)]
    results: list[list[torch.Tensor]] = [[], []]
    for _ in range(20):
        for k, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                results[k].append(merge(embeds_BTD, inputs[k], plan))
    torch.cuda.synchronize()
    for k in range(2):
        assert all(torch.equal(result, expected[k]) for result in results[k])


@torch.no_grad()
def test_forward_needs_no_more_memory_than_its_result(randn: Randn) -> None:
    embeds_BTD, features_ND, plan = large(randn)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    merged_BTD = merge(embeds_BTD, features_ND, plan)
    torch.cuda.synchronize()
    assert torch.cuda.max_memory_allocated() - before <= 1.05 * merged_BTD.numel() * merged_BTD.element_size()


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_mixed_devices_are_named(device: str, randn: Randn) -> None:
    plan = MergePlan.from_images((1, 4), [(0, 0, [(1, 2)])], features_per_image=[2]).to(device)
    other = "cpu" if device == "cuda" else "cuda"
    with pytest.raises(ValueError, match=rf"embeds are on {device}.*, features are on {other}"):
        merge(randn(1, 4, 8).to(device), randn(2, 8).to(other), plan)


@torch.no_grad()
def test_compiled_with_inductor(randn: Randn) -> None:
    def step(embeds_BTD: torch.Tensor, features_ND: torch.Tensor, plan: MergePlan) -> torch.Tensor:
        return merge(embeds_BTD.relu(), features_ND * 2, plan).abs()

    arguments = large(randn)
    assert torch.equal(torch.compile(step, fullgraph=True)(*arguments), step(*arguments))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_on_a_device_that_is_not_the_current_one(randn: Randn) -> None:
    embeds_BTD, features_ND, plan = large(randn)
    expected = merge(embeds_BTD, features_ND, plan)
    moved = merge(embeds_BTD.to("cuda:1"), features_ND.to("cuda:1"), plan.to("cuda:1"))
    assert torch.equal(moved.cpu(), expected.cpu())
    assert torch.cuda.current_device() == 0


@pytest.mark.skipif(shutil.which("compute-sanitizer") is None, reason="needs compute-sanitizer on PATH")
def test_compute_sanitizer() -> None:
    """With one allocation for each tensor: in a block that torch divides, an access beyond a tensor is no error."""
    command = ["compute-sanitizer", "--tool", "memcheck", "--report-api-errors", "no", "--error-exitcode", "9"]
    result = subprocess.run(
        [*command, sys.executable, "-W", "ignore", "-c", SANITIZED],
        env={**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
