"""Models outside the table: the generic adapter serves what it can, and refuses the rest in one sentence."""

import pytest
import torch
import transformers as hf
from triptych_trainer.forward import CheckedLogps, plain_logps
from triptych_trainer.forward.choose import sharing_path, sharing_path_and_reason
from triptych_trainer.forward.verify import SharingWarning
from triptych_trainer.models.families import Family, UnknownFamilyError, family_of


def test_an_unknown_type_with_the_usual_parts_runs_exactly_through_the_generic_adapter(lab, kits, kit_of):
    kit = kit_of("vipllava")
    model = kit.model()
    model.config.model_type = "something_new"
    assert type(family_of(model)) is Family
    expected = kits.stock_logps(kit.stock, kit.prompts)
    lab.weighted_loss(*expected).backward()
    got = CheckedLogps()(model, kit.prompts.batch, compute_entropy=True)
    lab.weighted_loss(*got).backward()
    assert (got[0] - expected[0]).abs().max() < 1e-5
    lab.assert_same_gradients(lab.gradients(model), lab.gradients(kit.stock), tolerance=1e-5)


def test_a_model_without_any_part_for_images_is_a_text_model(lab):
    family = family_of(hf.LlamaForCausalLM(hf.LlamaConfig(**lab.TEXT)))
    assert not family.takes_images


def test_a_model_without_the_usual_parts_is_refused_in_one_sentence(lab):
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    vision = {**sizes, "image_size": 4, "patch_size": 2}
    model = hf.CLIPModel(hf.CLIPConfig(text_config={**sizes, "vocab_size": 9}, vision_config=vision))
    with pytest.raises(
        UnknownFamilyError, match=r"'clip' has no adapter.*known types: aria, aya_vision, .*docs/add-a-family"
    ):
        family_of(model)


def test_a_model_that_takes_pixels_in_a_way_of_its_own_is_no_text_model(
    kits, kit_of, rows, train, order, tmp_path, capsys
):
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = hf.GitConfig(**vision, vocab_size=300, vision_config={**vision, "image_size": 4, "patch_size": 2})
    hf.GitForCausalLM(config).save_pretrained(tmp_path / "git")
    kit_of("llava").processor.save_pretrained(tmp_path / "git")
    assert train(tmp_path / "git", rows((1, 2, 1, 1)), order, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "train: error: model type 'git' has no adapter" in error
    assert "Traceback" not in error


def test_capped_attention_scores_take_the_plain_pass_and_say_so_once(kit_of):
    kit = kit_of("gemma3")
    model, (batch, _) = kit.model().eval(), kit.prompts.batch.select([0, 1])
    model.config.text_config.attn_logit_softcapping = 50.0
    path, reason = sharing_path_and_reason(model)
    assert path == "plain"
    assert "attn_logit_softcapping" in reason
    checked = CheckedLogps()
    with pytest.warns(SharingWarning, match="once per completion: its attention scores are capped"):
        got, _ = checked(model, batch)
    again, _ = checked(model, batch)  # a second warning would be an error
    assert torch.equal(got, plain_logps(model, batch)[0])
    assert torch.equal(got, again)


def test_attention_that_is_not_scaled_dot_products_takes_the_plain_pass(kit_of, monkeypatch):
    model = kit_of("llava").model()
    monkeypatch.setattr(type(model.model.language_model), "_supports_sdpa", False)
    path, reason = sharing_path_and_reason(model)
    assert path == "plain"
    assert "LlamaModel computes attention in a way of its own" in reason
    with_sinks = kit_of("internvl_gpt_oss").model()
    assert not with_sinks.model.language_model._supports_sdpa
    assert sharing_path(with_sinks) == "packed"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("qwen2_5_vl", r"positions follow from .* \(get_rope_index\)"), ("gemma3", r"depend on .* \(token_type_ids\)")],
)
def test_models_that_the_generic_adapter_would_train_wrongly_are_refused(kit_of, name, reason):
    model = kit_of(name).model()
    model.config.model_type = "something_new"
    with pytest.raises(UnknownFamilyError, match=f"'something_new' has no adapter, and the generic one .*{reason}"):
        family_of(model)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")  # torch, in the no-grad call
def test_a_setting_that_rules_sharing_out_later_is_named_when_it_does(kit_of):
    kit = kit_of("qwen3_5")
    model, (batch, _) = kit.model(), kit.prompts.batch.select([0])
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model.enable_input_require_grads()
    checked = CheckedLogps()
    with torch.no_grad():
        checked(model, batch)
    with pytest.warns(SharingWarning, match="use_reentrant"):
        checked(model, batch)


def test_every_family_takes_the_path_that_its_adapter_names(kit):
    model = kit.model()
    assert sharing_path(model) == family_of(model).path
