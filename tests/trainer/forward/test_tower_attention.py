"""All windows of a tower in one call: features and gradients of the stock tower, and what keeps its own attention."""

import copy

import pytest
import torch
from triptych_trainer.forward import encode_images, install_hooks
from triptych_trainer.forward.attention_choice import choose_attention
from triptych_trainer.forward.hooks import own_attention, remove_hooks
from triptych_trainer.forward.tower_attention import TOWER_IMPLEMENTATION, join_windows
from triptych_trainer.models.families import family_of


def features_of(model, batch, grad):
    features = encode_images(model, batch.images).rows
    features.backward(grad)
    return features.detach()


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen2_vl"])
def test_all_windows_in_one_call_equal_the_stock_tower(lab, name):
    stock, batch = getattr(lab, name)().train(), lab.qwen_batch()
    model = copy.deepcopy(stock)
    install_hooks(model, attention="varlen")
    tower = model.model.visual
    assert tower.config._attn_implementation == TOWER_IMPLEMENTATION
    with torch.enable_grad():
        grad = torch.randn(encode_images(stock, batch.images).rows.shape, generator=torch.Generator().manual_seed(0))
        expected, got = features_of(stock, batch, grad), features_of(model, batch, grad)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    lab.assert_same_gradients(lab.gradients(model), lab.gradients(stock), tolerance=1e-5)
    with own_attention(model) as differs:
        install_hooks(model)
        assert differs
        assert tower.config._attn_implementation == "sdpa"
    assert tower.config._attn_implementation == TOWER_IMPLEMENTATION
    remove_hooks(model)
    assert tower.config._attn_implementation == "sdpa"


def test_another_attention_and_the_language_model_stay(lab):
    model = lab.qwen2_5_vl()
    model.model.visual.set_attn_implementation("eager")
    assert join_windows(family_of(model), model.model) == 0
    assert model.model.visual.config._attn_implementation == "eager"
    other = lab.qwen2_5_vl()
    choose_attention(other.model.language_model, "masked")
    install_hooks(other)
    assert other.model.visual.config._attn_implementation == "sdpa"
    assert join_windows(family_of(other), other.model) == 1
    assert other.model.language_model.config._attn_implementation != TOWER_IMPLEMENTATION
