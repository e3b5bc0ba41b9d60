"""Norms are one call each while tokens are sampled on a CPU, if they compute what their names say."""

import pytest
import torch
from transformers import GenerationConfig
from triptych_trainer.forward import packed_weights
from triptych_trainer.forward.row_norms import row_norms


class RMSNorm(torch.nn.Module):
    def __init__(self, shift=0.0, outside=0.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(0.5, 2.0, 24))
        self.eps, self.shift, self.outside = 1e-6, shift, outside

    def forward(self, hidden_states):
        scale = torch.rsqrt(hidden_states.square().mean(-1, keepdim=True) + self.eps) + self.outside
        return (self.shift + self.weight) * (hidden_states * scale)


def rows(*shape):
    return torch.randn(*shape, 24, generator=torch.Generator().manual_seed(3))


def test_a_norm_gives_what_its_own_forward_gives():
    module = RMSNorm()
    ((found, forward),) = row_norms(module.modules()).items()
    assert found is module
    with torch.no_grad():
        for shape in ((1, 1), (8, 1), (2, 3, 4)):
            torch.testing.assert_close(forward(rows(*shape)), module(rows(*shape)), rtol=1e-5, atol=1e-6)


def test_gradients_many_rows_and_other_numbers_take_the_modules_own_forward():
    module = RMSNorm()
    (forward,) = row_norms([module]).values()
    assert forward(rows(2)).requires_grad
    with torch.no_grad():
        assert torch.equal(forward(rows(300)), module(rows(300)))
        assert torch.equal(forward(rows(2).double()), module(rows(2).double()))
        assert forward(rows(0)).shape == (0, 24)


@pytest.mark.parametrize(
    "module",
    [RMSNorm(shift=1.0), RMSNorm(outside=1e-3), torch.nn.LayerNorm(24), RMSNorm().bfloat16()],
    ids=["other weight", "other root", "no such norm", "other numbers"],
)
def test_norms_that_compute_anything_else_are_left_alone(module):
    assert row_norms([module]) == {}


def test_the_norms_of_the_backbone_are_found_and_themselves_again(lab, monkeypatch):
    monkeypatch.setattr(packed_weights, "_MIN_ELEMENTS", 1)
    model = lab.qwen2_5_vl().eval()

    def replaced():
        return {name for name, module in model.named_modules() if "forward" in module.__dict__ and "norm" in name}

    text = {name for name, _ in model.named_modules() if "norm" in name and "visual" not in name}
    assert replaced() == set()
    with packed_weights.packed_weights(model, config=GenerationConfig(max_new_tokens=99)):
        assert replaced() == text
        assert len(text) == 5  # two in each of two layers, and the last
    assert replaced() == set()
