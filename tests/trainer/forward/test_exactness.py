"""The group-shared pass against the stock transformers forward of every row alone: values and all gradients."""

import copy

import pytest
import torch
from triptych_trainer.forward import attention, encode_images, plain_logps, shared_logps

TOLERANCE = 1e-5


@pytest.mark.slow_except(
    "branches masked-shared_logps-qwen2_5_vl",
    "branches merged-shared_logps-qwen2_vl",
    "branches merged-plain_logps-qwen2_5_vl",
)
@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen2_vl"])
@pytest.mark.parametrize("way", [shared_logps, plain_logps])
@pytest.mark.parametrize(
    ("temperature", "merge_tokens"), [(1.0, 0), (0.7, 10**9)], ids=["branches merged", "branches masked"]
)
def test_equals_the_stock_forward_of_every_row(monkeypatch, lab, name, way, temperature, merge_tokens):
    monkeypatch.setattr(attention, "MERGE_TOKENS", merge_tokens)
    stock = getattr(lab, name)().train()
    model = copy.deepcopy(stock)
    batch = lab.qwen_batch()
    expected = lab.stock_logps(stock, batch, temperature=temperature)
    lab.weighted_loss(*expected).backward()

    got = way(model, batch, temperature=temperature, compute_entropy=True)
    lab.weighted_loss(*got).backward()

    for value, reference in zip(got, expected, strict=True):
        assert (value - reference).abs().max() < TOLERANCE
    assert got[0].std() > 0.5
    lab.assert_same_gradients(lab.gradients(model), lab.gradients(stock), tolerance=TOLERANCE)


def test_features_computed_before_give_the_same_numbers(lab):
    model = lab.qwen2_5_vl()
    batch = lab.qwen_batch()
    features = encode_images(model, batch.images)
    fresh, _ = shared_logps(model, batch)
    cached, _ = shared_logps(model, batch, features=features)
    assert torch.equal(fresh, cached)


def test_another_picture_of_the_same_size_changes_the_numbers(lab):
    model = lab.qwen2_5_vl()
    batch = lab.qwen_batch(lab.Recipe(images=(2,), completions=((5, 5),)))
    one, other = batch.images
    changed = lab.GroupBatch.build(
        batch.prompts,
        spans=batch.spans,
        images=(one, {**other, "pixel_values": other["pixel_values"].flip(0)}),
        completions=batch.completions,
    )
    assert (shared_logps(model, batch)[0] - shared_logps(model, changed)[0]).abs().max() > 1e-2
