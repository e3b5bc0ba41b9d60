"""The prompt-cache pass and the two-phase backward against the stock forward: values and all gradients."""

import copy

import pytest
import torch
from triptych_trainer.forward import shared_logps
from triptych_trainer.forward.cache_pass import cached_logps, two_phase_backward
from triptych_trainer.forward.choose import sharing_path

TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=["qwen3_5", "gemma3", "qwen3_vl"])
def case(request, lab, kits, kit_of):
    """(stock model, batch, expected values, expected gradients) of three prompts."""
    kit = kit_of(request.param)
    stock, prompts = kit.model(), kit.prompts.select([0, 1, 2])
    expected = kits.stock_logps(stock, prompts)
    lab.weighted_loss(*expected).backward()
    return stock, prompts.batch, [value.detach() for value in expected], lab.gradients(stock)


@pytest.mark.slow_except("qwen3_vl-True", "gemma3-False")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_cached_pass_equals_the_stock_forward(lab, case, checkpointing):
    stock, batch, expected, gradients = case
    model = copy.deepcopy(stock)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    got = cached_logps(model, batch)
    lab.weighted_loss(*got).backward()
    for value, reference in zip(got, expected, strict=True):
        assert (value - reference).abs().max() < TOLERANCE
    lab.assert_same_gradients(lab.gradients(model), gradients, tolerance=TOLERANCE)


@pytest.mark.slow_except("qwen3_vl-3", "gemma3-1", "qwen3_5-100")
@pytest.mark.parametrize("rows_per_slice", [1, 3, 100])
def test_two_phase_backward_accumulates_the_same_gradients(lab, case, rows_per_slice):
    stock, batch, expected, gradients = case
    model = copy.deepcopy(stock)
    weights = [torch.linspace(-1.0, 2.0, expected[0].numel()).view_as(expected[0])]
    weights.append(weights[0].flip(0) * 0.1)

    def loss_of(rows, logps, entropies):
        return (weights[0][rows] * logps).sum() + (weights[1][rows] * entropies).sum()

    loss = two_phase_backward(model, batch, loss_of=loss_of, rows_per_slice=rows_per_slice)
    assert abs(float(loss - lab.weighted_loss(*expected))) < 1e-3
    lab.assert_same_gradients(lab.gradients(model), gradients, tolerance=TOLERANCE)


def test_reentrant_checkpointing_is_refused_and_the_hybrid_falls_back_to_the_plain_pass(lab, kits, kit_of):
    kit = kit_of("qwen3_5")
    stock, model, prompts = kit.model(), kit.model(), kit.prompts.select([2, 1])
    batch = prompts.batch
    assert sharing_path(model) == "cache"
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model.enable_input_require_grads()
    assert sharing_path(model) == "plain"
    with torch.no_grad():
        assert sharing_path(model) == "cache"
    with pytest.raises(ValueError, match="use_reentrant"):
        cached_logps(model, batch)
    expected = kits.stock_logps(stock, prompts)
    lab.weighted_loss(*expected).backward()
    got = shared_logps(model, batch, compute_entropy=True)
    lab.weighted_loss(*got).backward()
    assert (got[0] - expected[0]).abs().max() < TOLERANCE
    lab.assert_same_gradients(lab.gradients(model), lab.gradients(stock), tolerance=TOLERANCE)


def test_checkpointed_layers_are_left_as_they_were(kit_of):
    kit = kit_of("qwen3_5")
    model = kit.model()
    cached_logps(model, kit.prompts.select([2]).batch)
    assert not any("_can_checkpoint_with_cache" in vars(module) for module in model.modules())


def test_two_phase_keeps_only_a_slice_of_activations(kit_of):
    kit = kit_of("qwen3_vl")
    model = kit.model()
    batch = kit.prompts.select([2]).batch.with_completions([[tuple(range(1, 31))] * 16])
    peaks = {}
    for rows in (2, 16):
        live, peak = [0], [0]

        def pack(tensor, live=live, peak=peak):
            live[0] += tensor.numel()
            peak[0] = max(peak[0], live[0])
            return _Counted(tensor, live)

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda counted: counted.tensor):
            two_phase_backward(model, batch, loss_of=lambda rows, logps, _: logps.sum(), rows_per_slice=rows)
        peaks[rows] = peak[0]
    assert peaks[2] < peaks[16] / 3


class _Counted:
    """A saved tensor that leaves the count when autograd lets it go."""

    def __init__(self, tensor, live):
        self.tensor, self.live = tensor, live

    def __del__(self):
        self.live[0] -= self.tensor.numel()
