"""The first use of a model compares shared and plain pass, and a model that cannot share falls back loudly."""

import warnings

import pytest
import torch
from triptych_trainer.forward import (
    CheckedLogps,
    attention_choice,
    encode_images,
    install_hooks,
    plain_logps,
    shared_logps,
    varlen_attention,
)
from triptych_trainer.forward.attention_choice import AttentionWarning
from triptych_trainer.forward.verify import SharingWarning, compare, sample
from trl.trainer.utils import add_fused_lm_head


def leak(model):
    """A layer whose output depends on its neighbour in the row: the shared row has other neighbours."""
    layer = model.model.language_model.layers[0]
    layer.register_forward_hook(lambda module, args, output: output + output.roll(1, dims=1))
    return model


def test_an_exact_model_keeps_the_shared_pass(lab):
    model = lab.qwen2_5_vl().train()
    batch = lab.qwen_batch()
    agreement = compare(model, batch)
    assert agreement.holds
    assert agreement.difference < 1e-5
    assert agreement.num_tokens == 11
    tokens = []
    model.model.language_model.register_forward_hook(
        lambda module, args, output: tokens.append(output.last_hidden_state.shape[0])
    )
    checked = CheckedLogps()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checked(model, batch)
        checked(model, batch)
    assert tokens == [1, 2, 1, 1]  # rows: sample shared, sample plain, shared, shared


def test_a_batch_without_images_in_completions_is_not_compared_after_one_with_them(lab, monkeypatch):
    """On several ranks, the one whose batch has none would compare alone and wait for the others."""
    model, batch, compared = lab.qwen2_5_vl().train(), lab.qwen_batch(), []
    monkeypatch.setattr("triptych_trainer.forward.verify._largest", lambda value: compared.append(1) or float(value))
    checked = CheckedLogps()
    for has_images, count in ((True, 1), (False, 1), (True, 1)):
        monkeypatch.setattr(checked, "_has_completion_images", lambda *_, known, has_images=has_images: has_images)
        checked(model, batch)
        assert len(compared) == count


def test_a_model_with_memory_between_tokens_falls_back_once_and_stays_right(lab):
    model = leak(lab.qwen2_5_vl().train())
    batch = lab.qwen_batch()
    checked = CheckedLogps()
    with pytest.warns(SharingWarning, match="Qwen2_5_VLForConditionalGeneration differs from its plain pass"):
        first, _ = checked(model, batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second, _ = checked(model, batch)
    expected, _ = plain_logps(model, batch)
    assert torch.equal(first, expected)
    assert torch.equal(second, expected)


def test_a_pass_that_differs_without_masks_alone_keeps_masks_and_stays_shared(monkeypatch, lab):
    """Wrong from the first call of a layer on, after the check of the kernels has passed."""
    model, batch = lab.qwen2_5_vl().train(), lab.qwen_batch()
    install_hooks(model, attention="varlen")
    shared_logps(model, batch)
    right = varlen_attention.attend
    monkeypatch.setattr(varlen_attention, "attend", lambda *states, scaling: right(*states, scaling=1.0))
    attention_choice.warn_once.cache_clear()
    checked = CheckedLogps()
    with pytest.warns(AttentionWarning, match="computed under masks: without masks the shared pass of Qwen2_5_VL"):
        got, _ = checked(model, batch)
    expected, _ = plain_logps(lab.qwen2_5_vl().train(), batch)
    assert (got - expected).abs().max() < 1e-4
    assert attention_choice.chosen_attention(model.model.language_model) == "masked"


def test_the_sample_is_the_prompt_with_the_most_images_cut_short(lab):
    batch = lab.qwen_batch(lab.Recipe(images=(1, 3, 0), completions=((4,), (40, 2, 30), (5,))))
    small, kept = sample(batch)
    assert small.prompts == (batch.prompts[1],)
    assert [len(ids) for ids in small.completions[0]] == [16, 16]
    assert kept == (1, 2, 3)


def test_given_features_are_used_for_the_comparison(lab):
    model = lab.qwen2_5_vl().train()
    batch = lab.qwen_batch()
    features = encode_images(model, batch.images)
    model.model.visual.forward = None
    assert compare(model, batch, features=features).holds


def test_known_features_spare_the_comparison_an_encoding(lab):
    model = lab.qwen2_5_vl().train()
    batch = lab.qwen_batch()
    features = encode_images(model, batch.images)
    images = []
    model.model.visual.register_forward_hook(lambda module, args, output: images.append(args[0].shape[0]))
    CheckedLogps()(model, batch, known_features=lambda: features)
    assert len(images) == 1  # the policy pass itself


def test_dropout_does_not_count_as_a_mismatch(lab):
    model = lab.qwen2_5_vl().train()
    for layer in model.model.language_model.layers:
        layer.self_attn.attention_dropout = 0.5
    assert compare(model, lab.qwen_batch()).difference < 1e-5
    assert all(layer.self_attn.attention_dropout == 0.5 for layer in model.model.language_model.layers)


def test_half_precision_is_held_to_half_precision(lab):
    model = lab.qwen2_5_vl().to(torch.bfloat16)
    agreement = compare(model, lab.qwen_batch())
    assert agreement.holds
    assert agreement.tolerance == 5e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_leak_of_a_hundredth_is_told_from_rounding(lab, dtype):
    model = lab.qwen2_5_vl().to(dtype)
    layer, share = model.model.language_model.layers[0], 0.2
    layer.register_forward_hook(lambda module, args, output: output + share * output.roll(1, dims=1))
    agreement = compare(model, lab.qwen_batch())
    assert 8e-3 < agreement.difference < 1.2e-2
    assert not agreement.holds


def test_the_fused_head_is_compared_where_the_run_scores_with_it(lab):
    model = lab.qwen2_5_vl().train()
    batch = lab.qwen_batch()
    add_fused_lm_head(model, temperature=0.7, outputs=("log_probs", "entropy"))
    assert compare(model, batch, temperature=0.7, fused_lm_head=True).difference < 1e-5
    checked, wrong = CheckedLogps(), {"temperature": 1.0, "fused_lm_head": True}
    with pytest.warns(SharingWarning, match="differs from its plain pass"):
        logps, _ = checked(model, batch, **wrong)
    assert torch.equal(logps, plain_logps(model, batch)[0])


def test_slices_are_compared_before_they_are_scored(lab):
    model = lab.qwen2_5_vl().train()
    batch = lab.qwen_batch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sliced, _ = CheckedLogps()(model, batch, rows_per_slice=2)
    assert (sliced - plain_logps(model, batch)[0]).abs().max() < 1e-5
    tied = leak(model)
    with pytest.warns(SharingWarning, match="differs from its plain pass"):
        found, _ = CheckedLogps()(tied, batch, rows_per_slice=2)
    assert torch.equal(found, plain_logps(tied, batch)[0])
