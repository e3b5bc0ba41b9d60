"""Models outside the table: the generic adapter serves what it can, and refuses the rest in one sentence."""

import copy

import pytest
import torch
import transformers as hf
from triptych_trainer.forward import CheckedLogps, SharingWarning, plain_logps, sharing_path, sharing_path_and_reason
from triptych_trainer.models.families import Family, UnknownFamilyError, family_of


def vip_llava(zoo, **text):
    """A model type without an adapter of its own: VipLlava has LLaVA's parts under another name."""
    config = hf.VipLlavaConfig(
        text_config={**zoo.TEXT, "model_type": "llama", **text},
        vision_config={**zoo.VIT, "model_type": "clip_vision_model", "projection_dim": 16},
        vision_feature_layers=[-1, -2],
        image_token_index=zoo.IMAGE,
    )
    return hf.VipLlavaForConditionalGeneration(config)


def test_an_unknown_type_with_the_usual_parts_runs_exactly_through_the_generic_adapter(lab, zoo):
    torch.manual_seed(0)
    stock = lab.strengthen(vip_llava(zoo)).train()
    model = copy.deepcopy(stock)
    assert type(family_of(model)) is Family
    batch = zoo.build_batch("llava", images=(1, 0, 2), lengths=((3, 2), (4,), (1, 5)))
    expected = lab.stock_logps(stock, batch)
    lab.weighted_loss(*expected).backward()
    got = CheckedLogps()(model, batch, compute_entropy=True)
    lab.weighted_loss(*got).backward()
    assert (got[0] - expected[0]).abs().max() < 1e-5
    lab.assert_same_gradients(lab.gradients(model), lab.gradients(stock), tolerance=1e-5)


def test_a_model_without_the_usual_parts_is_refused_in_one_sentence(zoo):
    text = {name: value for name, value in zoo.TEXT.items() if name != "pad_token_id"}
    model = hf.LlamaForCausalLM(hf.LlamaConfig(**text, pad_token_id=0))
    with pytest.raises(UnknownFamilyError, match=r"'llama' has no adapter.*known types: gemma3, .*docs/add-a-family"):
        family_of(model)


def test_capped_attention_scores_take_the_plain_pass_and_say_so_once(lab, zoo):
    torch.manual_seed(0)
    model = zoo.gemma3()
    model.config.text_config.attn_logit_softcapping = 50.0
    path, reason = sharing_path_and_reason(model)
    assert path == "plain"
    assert "attn_logit_softcapping" in reason
    batch = zoo.build_batch("gemma3", images=(1,), lengths=((3, 2),))
    checked = CheckedLogps()
    with pytest.warns(SharingWarning, match="once per completion: its attention scores are capped"):
        got, _ = checked(model, batch)
    again, _ = checked(model, batch)  # a second warning would be an error
    assert torch.equal(got, plain_logps(model, batch)[0])
    assert torch.equal(got, again)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")  # torch, in the no-grad call
def test_a_setting_that_rules_sharing_out_later_is_named_when_it_does(lab, zoo):
    model = zoo.build_model("qwen3_5", lab).train()
    batch = zoo.build_batch("qwen3_5", images=(1,), lengths=((3, 2),))
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model.enable_input_require_grads()
    checked = CheckedLogps()
    with torch.no_grad():
        checked(model, batch)
    with pytest.warns(SharingWarning, match="use_reentrant"):
        checked(model, batch)


def test_the_table_names_every_tested_family(zoo):
    paths = {name: sharing_path(case.build()) for name, case in zoo.CASES.items()}
    assert paths.pop("qwen3_5") == "cache"
    assert set(paths.values()) == {"packed"}
