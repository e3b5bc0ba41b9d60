"""The group-shared pass against the stock transformers forward of every row alone: values and all gradients."""

import copy
import warnings

import pytest
import torch
from triptych_kernels.reference import merge
from triptych_trainer.forward import (
    attention,
    attention_choice,
    encode_images,
    install_hooks,
    plain_logps,
    shared_logps,
    shared_pass,
    varlen_attention,
)
from triptych_trainer.forward.attention_choice import AttentionWarning

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


@pytest.mark.parametrize("checkpointed", [False, True], ids=["", "checkpointed"])
def test_attention_in_segments_equals_masks_in_float64(monkeypatch, lab, checkpointed):
    monkeypatch.setattr(shared_pass, "merge", merge)  # the kernels take no float64
    batch, results = lab.qwen_batch(), []
    for choice in ("varlen", "masked"):
        model = lab.qwen2_5_vl().double().train()
        install_hooks(model, attention=choice)
        if checkpointed:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        with warnings.catch_warnings():
            warnings.simplefilter("error", AttentionWarning)
            got = shared_logps(model, batch, compute_entropy=True)
        lab.weighted_loss(*got).backward()
        results.append((*got, lab.gradients(model)))
    for value, expected in zip(results[0][:2], results[1][:2], strict=True):
        assert (value - expected).abs().max() < 1e-6
    assert results[0][0].std() > 0.5
    lab.assert_same_gradients(results[0][2], results[1][2], tolerance=1e-6)


def test_a_kernel_that_is_wrong_is_found_at_first_use_and_masks_stay(monkeypatch, lab):
    """The log-sum-exp is off by a factor of two, as one in base 2 would be: every value of the first call is right."""
    model, batch = lab.qwen2_5_vl(), lab.qwen_batch()
    expected, _ = shared_logps(model, batch)
    right = varlen_attention.attend

    def wrong(*states, scaling):
        out, lse = right(*states, scaling=scaling)
        return out, lse * 2

    attention_choice.why_differs.cache_clear()
    attention_choice.warn_once.cache_clear()
    monkeypatch.setattr(varlen_attention, "attend", wrong)
    other = lab.qwen2_5_vl()
    install_hooks(other, attention="varlen")
    with pytest.warns(AttentionWarning, match="on cpu its kernels without masks differ by .* of the output") as caught:
        got, _ = shared_logps(other, batch)
    assert len(caught) == 2, "one for the heads of the text, one for those of the tower"
    attention_choice.why_differs.cache_clear()
    assert torch.equal(got, expected)
