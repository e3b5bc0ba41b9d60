"""The head in slices against the whole logits of the model's own forward: values, gradients, and what is held."""

import copy
from functools import partial

import pytest
import torch
from peft import LoraConfig, get_peft_model
from triptych_trainer.forward import head as heads
from triptych_trainer.forward import plain_logps, shared_logps
from triptych_trainer.models.unwrap import unwrap


class Capped(torch.nn.Module):
    """A head that caps its own logits, as a model's forward may do behind it."""

    def __init__(self, head, cap):
        super().__init__()
        self.head, self.cap = head, cap

    @property
    def weight(self):
        return self.head.weight

    def forward(self, hidden):
        return self.cap * torch.tanh(self.head(hidden) / self.cap)


def with_bias(model):
    model.lm_head.bias = torch.nn.Parameter(torch.linspace(-1, 1, model.lm_head.out_features))


def tied(model):
    model.lm_head.weight = model.get_input_embeddings().weight


def frozen(model):
    model.lm_head.requires_grad_(False)


def capped(model):
    model.lm_head = Capped(model.lm_head, 3.0)


def hooked(model):
    model.lm_head.register_forward_hook(lambda module, args, output: output * 0.5)


def scaled_in_place(model):
    stock = model.forward

    def forward(*args, **kwargs):
        output = stock(*args, **kwargs)
        output.logits *= 0.5
        return output

    model.forward = forward


def with_lora(model):
    torch.manual_seed(1)
    return get_peft_model(model, LoraConfig(r=2, target_modules=["lm_head", "q_proj"], init_lora_weights=False))


@pytest.fixture
def slices_of_four(monkeypatch, lab):
    monkeypatch.setattr("triptych_trainer.forward.scoring._SLICE_ELEMENTS", 4 * lab.VOCABULARY)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(
    ("change", "is_matrix"),
    [
        (None, True),
        (with_bias, True),
        (tied, True),
        (frozen, True),
        (capped, False),
        (hooked, False),
        (scaled_in_place, False),
        (with_lora, False),
    ],
)
def test_equals_the_whole_logits(lab, slices_of_four, monkeypatch, change, is_matrix, temperature):
    found = []
    stock = heads._is_matrix
    monkeypatch.setattr(heads, "_is_matrix", lambda *a, **k: found.append(stock(*a, **k)) or found[-1])
    values, gradients = [], []
    for way in (shared_logps, plain_logps):
        model = lab.qwen2_5_vl().train()
        changed = (change and change(model)) or model
        got = way(changed, lab.qwen_batch(), temperature=temperature, compute_entropy=True)
        lab.weighted_loss(*got).backward()
        values.append(got)
        gradients.append(lab.gradients(changed))
    assert found == [is_matrix]
    for value, reference in zip(*values, strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-5, atol=1e-5)
    lab.assert_same_gradients(*gradients, tolerance=1e-5)


def test_log_probabilities_alone_have_the_same_gradients(lab, slices_of_four):
    gradients = []
    for way in (shared_logps, plain_logps):
        model = lab.qwen2_5_vl().train()
        frozen(model)
        (way(model, lab.qwen_batch())[0] ** 2).sum().backward()
        gradients.append(lab.gradients(model))
    lab.assert_same_gradients(*gradients, tolerance=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_replicated_rows_have_the_same_values_in_slices(lab, slices_of_four, temperature):
    values, gradients = [], []
    for whole in (False, True):
        model = lab.qwen2_5_vl().train()
        got = plain_logps(
            model, lab.qwen_batch(), temperature=temperature, compute_entropy=True, width=9, whole_logits=whole
        )
        lab.weighted_loss(*got).backward()
        values.append(got)
        gradients.append(lab.gradients(model))
    torch.testing.assert_close(*values, rtol=1e-5, atol=1e-5)
    lab.assert_same_gradients(*gradients, tolerance=1e-5)


@pytest.mark.parametrize(
    ("way", "most"),
    [(shared_logps, 4), (partial(plain_logps, whole_logits=False), 12)],  # the model's call keeps one of each row
    ids=["packed row", "replicated rows"],
)
def test_no_tensor_holds_more_logits_than_a_slice(lab, slices_of_four, way, most):
    widest = []

    class Widest(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            is_new = isinstance(result, torch.Tensor) and function is not torch.Tensor.t  # a view of the matrix
            if is_new and result.shape[-1:] == (lab.VOCABULARY,):
                widest.append(result.numel() // lab.VOCABULARY)
            return result

    model, batch = lab.qwen2_5_vl().train(), lab.qwen_batch()
    with Widest():
        logps, _ = way(model, batch)
        logps.sum().backward()
    assert max(widest) == most


def test_a_step_of_a_model_in_half_precision_is_near_the_whole_logits(lab, slices_of_four):
    model = lab.qwen2_5_vl().bfloat16().train()
    batch = lab.qwen_batch()
    other = copy.deepcopy(model)
    got, expected = shared_logps(model, batch)[0], plain_logps(other, batch)[0]
    got.sum().backward()
    expected.sum().backward()
    assert (got - expected).abs().mean() < 0.1
    ours, whole = unwrap(model).lm_head.weight.grad.float(), unwrap(other).lm_head.weight.grad.float()
    assert ((ours - whole).norm() / whole.norm()) < 0.05
