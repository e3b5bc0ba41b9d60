"""Tokens are sampled with packed copies of a model's matrices on a CPU, and the model is as it was afterwards."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig
from triptych_kernels import PackedMatrix
from triptych_trainer.forward import packed_weights, shared_generate

RECIPE = {"images": (2, 0, 1), "completions": ((), (), ())}


@pytest.fixture
def products(monkeypatch):
    """Every matrix is worth a copy; the shapes of the products with copies."""
    seen = []
    stock = PackedMatrix.product

    def recording(packed, input, bias):
        seen.append(tuple(input.shape))
        return stock(packed, input, bias)

    monkeypatch.setattr(packed_weights, "_MIN_ELEMENTS", 1)
    monkeypatch.setattr(PackedMatrix, "product", recording)
    return seen


def layers(model):
    return packed_weights.packable(model)


def sampled(lab, model, *, tokens=packed_weights.MIN_TOKENS):
    torch.manual_seed(5)
    ends = list(range(20, 40))
    config = GenerationConfig(do_sample=True, max_new_tokens=tokens, pad_token_id=lab.PAD, eos_token_id=ends)
    batch = lab.qwen_batch(lab.Recipe(**RECIPE))
    return shared_generate(model, batch, num_generations=[3, 2, 4], generation_config=config)


@pytest.mark.parametrize("adapted", [False, True], ids=["all weights", "adapter"])
def test_copies_give_the_tokens_of_the_weights_themselves(lab, monkeypatch, products, adapted):
    model = lab.qwen2_5_vl().eval()
    if adapted:
        model = get_peft_model(model, LoraConfig(target_modules=["q_proj", "down_proj"])).eval()
    found = sampled(lab, model)
    longest = max(len(row) for group in found for row in group)
    num_layers = len([layer for layer in layers(model) if layer.out_features != 8 and layer.in_features != 8])
    assert num_layers >= 15  # seven matrices in each of two layers, and the head
    assert len(products) >= num_layers * longest
    assert not any("forward" in module.__dict__ for module in model.modules() if isinstance(module, torch.nn.Linear))
    monkeypatch.setattr(packed_weights, "packable", lambda *_: [])
    products.clear()
    assert sampled(lab, model) == found
    assert products == []


def test_few_tokens_are_not_worth_copies(lab, products):
    sampled(lab, lab.qwen2_5_vl().eval(), tokens=packed_weights.MIN_TOKENS - 1)
    assert products == []


def test_the_next_generation_multiplies_with_the_weights_as_they_are_then(lab, products):
    model = lab.qwen2_5_vl().eval()
    before = sampled(lab, model)
    with torch.no_grad():
        model.lm_head.weight.copy_(model.lm_head.weight.flip(0))
    assert sampled(lab, model) != before
    assert products


def test_layers_are_themselves_again_after_a_failure(lab, products):
    model = lab.qwen2_5_vl().eval()
    during = []

    def fails():
        with packed_weights.packed_weights(model, config=GenerationConfig(max_new_tokens=99)):
            during.append("forward" in model.lm_head.__dict__)
            raise RuntimeError("of the test")

    with pytest.raises(RuntimeError, match="of the test"):
        fails()
    assert during == [True]
    assert "forward" not in model.lm_head.__dict__


def test_with_gradients_a_layer_multiplies_with_its_own_weight(lab, products):
    model = lab.qwen2_5_vl().eval()
    hidden = torch.randn(2, model.lm_head.in_features)
    with packed_weights.packed_weights(model, config=GenerationConfig(max_new_tokens=99)):
        model.lm_head(hidden).sum().backward()
        assert model.lm_head.weight.grad is not None
        with torch.no_grad():
            packed = model.lm_head(hidden)
    assert products == [(2, model.lm_head.in_features)]
    torch.testing.assert_close(packed, model.lm_head(hidden))


class Scaled(torch.nn.Linear):
    """Computes more than a product."""


@pytest.mark.parametrize("why", ["half", "other type", "other forward", "autocast", "memory"])
def test_what_is_not_a_plain_float32_matrix_is_left_alone(lab, monkeypatch, products, why):
    model = lab.qwen2_5_vl().eval()
    assert len(layers(model)) == 15
    head = model.lm_head
    if why == "half":
        model.to(torch.bfloat16)
    elif why == "other type":
        model.lm_head = Scaled(head.in_features, head.out_features, bias=False)
    elif why == "other forward":
        head.forward = lambda hidden: hidden
    elif why == "memory":
        monkeypatch.setattr(packed_weights, "_machine_bytes", lambda: 1000)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=why == "autocast"):
        found = layers(model)
    assert len(found) == (14 if why.startswith("other") else 0)
    assert head not in found


def test_a_container_has_its_own_memory(monkeypatch, tmp_path):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(packed_weights, "_LIMIT", limit)
    whole = packed_weights._machine_bytes()
    limit.write_text("max\n")
    assert packed_weights._machine_bytes() == whole > 2**28
    limit.write_text("268435456\n")
    assert packed_weights._machine_bytes() == 2**28
