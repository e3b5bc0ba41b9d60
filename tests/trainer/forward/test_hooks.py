"""The two hooks: installed once, removed without a trace, refused with a clear error when a model changes shape."""

import copy

import pytest
import torch
from torch import nn
from triptych_trainer.errors import IncompatibleVersionError
from triptych_trainer.forward import install_hooks, plain_logps, shared_logps
from triptych_trainer.forward.attention import IMPLEMENTATION
from triptych_trainer.forward.hooks import has_hooks, remove_hooks
from triptych_trainer.models.families import family_of
from triptych_trainer.models.unwrap import unwrap


def test_prepare_twice_installs_once_and_restore_removes_all(lab):
    model = lab.qwen2_5_vl()
    text = model.model.language_model
    assert not has_hooks(model)
    family = install_hooks(model)
    assert install_hooks(model) is family
    assert has_hooks(model)
    assert len(text._forward_pre_hooks) == 1
    assert text.config._attn_implementation == IMPLEMENTATION
    assert model.model.visual.config._attn_implementation == "sdpa"
    remove_hooks(model)
    assert not has_hooks(model)
    assert not text._forward_pre_hooks
    assert not text._forward_pre_hooks_with_kwargs
    assert text.config._attn_implementation == "sdpa"


def test_a_copy_of_a_prepared_model_uses_its_own_tower(lab):
    model = lab.qwen2_5_vl()
    batch = lab.qwen_batch()
    before, _ = shared_logps(model, batch)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.model.visual.parameters():
            parameter.mul_(0.5)
    changed, _ = shared_logps(other, batch)
    assert (changed - before).abs().max() > 1e-2
    assert (changed - plain_logps(other, batch)[0]).abs().max() < 1e-5
    assert torch.equal(shared_logps(model, batch)[0], before)


def test_saved_configuration_does_not_name_the_hook(lab, tmp_path):
    model = lab.qwen2_5_vl()
    install_hooks(model)
    model.save_pretrained(tmp_path)
    assert IMPLEMENTATION not in (tmp_path / "config.json").read_text()


def test_unwrap_finds_the_model_in_its_wrappers(lab):
    model = lab.qwen2_5_vl()

    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    assert unwrap(Wrapper(Wrapper(model))) is model
    assert unwrap(model) is model


def test_a_backbone_that_takes_its_embeddings_by_position_is_named(lab):
    model = lab.qwen2_5_vl()
    install_hooks(model)
    inner = model.model
    stock = inner.language_model.forward
    inner.forward = lambda **kwargs: inner.language_model(kwargs["input_ids"], triptych_pass=kwargs["triptych_pass"])
    with pytest.raises(
        IncompatibleVersionError,
        match=r"Qwen2_5_VLTextModel with transformers .*without `inputs_embeds` as a keyword; tested with",
    ):
        shared_logps(model, lab.qwen_batch())
    assert inner.language_model.forward == stock


def test_a_forward_without_keyword_arguments_is_named(lab, monkeypatch):
    model = lab.qwen2_5_vl()

    def forward(self, input_ids=None, logits_to_keep=0):
        raise AssertionError

    monkeypatch.setattr(type(model), "forward", forward)
    with pytest.raises(IncompatibleVersionError, match=r"takes no `\*\*kwargs`.*tested with transformers"):
        install_hooks(model)


def test_a_family_that_the_installed_transformers_computes_wrongly_is_refused_by_name(lab, monkeypatch):
    model = lab.qwen2_5_vl()
    monkeypatch.setattr(type(family_of(model)), "least_transformers", (5, 99))
    with pytest.raises(
        IncompatibleVersionError, match=r"\(qwen2_5_vl\) needs transformers 5\.99 or later .*pip install"
    ):
        install_hooks(model)
