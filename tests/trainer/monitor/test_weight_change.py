"""One step of an optimizer, looked at through some weights: those that had a gradient, and those that changed."""

import pytest
import torch
from triptych_trainer.monitor.weight_change import WeightSample


def step(dtype, *, rate, scale=1.0):
    """One step of AdamW on a layer of usual weights; half of its inputs are always 0."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 64).to(dtype)
    torch.nn.init.zeros_(layer.bias)
    torch.nn.init.normal_(layer.weight, std=0.02)
    unused = torch.nn.Linear(4, 4)
    layer(torch.cat([torch.randn(8, 32), torch.zeros(8, 32)], 1).to(dtype)).square().mean().backward()
    layer.weight.grad *= scale
    optimizer = torch.optim.AdamW(layer.parameters(), lr=rate, weight_decay=0.0)
    sample = WeightSample([*layer.parameters(), *unused.parameters()])
    optimizer.step()
    return sample.update(learning_rate=rate)


@pytest.mark.parametrize(
    ("dtype", "rate", "scale", "all_change"),
    [
        (torch.float32, 1e-6, 1.0, True),
        (torch.float32, 1e-30, 1.0, False),
        (torch.float32, 1e-6, 1e-30, False),
        (torch.bfloat16, 1e-2, 1.0, True),
        (torch.bfloat16, 1e-7, 1.0, False),
    ],
)
def test_updates_that_are_lost_are_told_from_others(dtype, rate, scale, all_change):
    update = step(dtype, rate=rate, scale=scale)
    assert 4 < update.num_weights < 16, "of those without a gradient none is counted"
    assert update.num_changed == (update.num_weights if all_change else 0)
    assert update.dtype == str(dtype).removeprefix("torch.")
    assert update.learning_rate == rate
