"""Every unpromised name of transformers that is used is checked, and every bridge over versions does its work."""

import pytest
import torch
from triptych_trainer.errors import IncompatibleVersionError
from triptych_trainer.upstream import transformers_names as names


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, found in names.ATTRIBUTES for name in found])
def test_each_attribute_that_goes_is_named(monkeypatch, owner, name):
    names.check_names.__wrapped__()
    others = {other: None for other in dict(names.ATTRIBUTES)[owner] if other != name}
    changed = ((type(owner.__name__, (), others) if kept is owner else kept, asked) for kept, asked in names.ATTRIBUTES)
    monkeypatch.setattr(names, "ATTRIBUTES", tuple(changed))
    with pytest.raises(
        IncompatibleVersionError,
        match=rf"{owner.__name__}\.{name} is gone; install a version that triptych-trainer asks for",
    ):
        names.check_names.__wrapped__()


@pytest.mark.parametrize("argument", ["cache", "past_key_values"])
def test_the_cache_is_handed_over_under_the_models_own_name(argument):
    class Model(torch.nn.Module):
        if argument == "cache":

            def forward(self, input_ids, cache=None):
                return cache
        else:

            def forward(self, input_ids, past_key_values=None):
                return past_key_values

    model = Model()
    assert model(None, **names.cache_argument(model, "kept")) == "kept"


def test_deepstack_rows_come_as_tensors_or_as_pieces():
    whole = torch.arange(12.0).view(6, 2)
    for given in ([whole, whole + 1], [whole.split([2, 4]), (whole + 1).split([5, 1])]):
        first, second = names.rows_per_layer(given)
        assert torch.equal(first, whole)
        assert torch.equal(second, whole + 1)


class Head(torch.nn.Module):
    def forward(self, input_ids, logits_to_keep=0):
        raise AssertionError


class PlainHead(torch.nn.Module):
    def forward(self, input_ids):
        raise AssertionError


@pytest.mark.parametrize("model", [Head(), PlainHead()], ids=["keeps", "does not"])
@pytest.mark.parametrize("by_mask", [False, True])
def test_the_kept_logits_are_the_same_with_and_without_what_transformers_takes(monkeypatch, model, by_mask):
    monkeypatch.setattr(names, "_KEEPS_BY_MASK", by_mask)
    logits, keeps = torch.randn(2, 3, 5), isinstance(model, Head)
    mask = torch.tensor([[True, False, True], [False, True, False]])
    assert set(names.kept_logits(model, mask)) == ({"logits_to_keep"} if by_mask and keeps else set())
    computed = logits[mask] if by_mask and keeps else logits
    assert torch.equal(names.rows_of_logits(model, computed, mask), logits[mask])
    places = torch.tensor([2, 0])
    assert set(names.kept_logits(model, places)) == ({"logits_to_keep"} if keeps else set())
    computed = logits[:, places] if keeps else logits
    assert torch.equal(names.rows_of_logits(model, computed, places), logits[:, places])


@pytest.mark.parametrize("named", [False, True])
def test_image_options_are_those_of_a_call_of_the_processor(named):
    class Processor:
        valid_processor_kwargs = "its own"

        if named:

            def _merge_kwargs(self, ModelProcessorKwargs, **given):
                return {"images_kwargs": {"asked": ModelProcessorKwargs}}
        else:

            def _merge_kwargs(self, **given):
                return {"images_kwargs": {"asked": "its own"}}

    assert names.image_options(Processor()) == {"asked": "its own"}


def test_keyword_arguments_count_under_any_name():
    assert names.takes_keywords(lambda a, **lm_kwargs: a)
    assert not names.takes_keywords(lambda kwargs: kwargs)


def test_a_model_with_experts_has_the_switch_that_trl_looks_for():
    class Config:
        def get_text_config(self):
            return self

    model = torch.nn.Module()
    model.config = Config()
    assert not names.declare_router_logits(model)
    assert not hasattr(model.config, "output_router_logits"), "a model without experts stays as it is"
    model.config.router_aux_loss_coef = 0.001
    assert names.declare_router_logits(model)
    assert model.config.output_router_logits is False
    assert not names.declare_router_logits(model)


def test_the_experts_of_kimi_are_found_where_its_config_and_model_do_not_name_them():
    class Config:
        model_type = "deepseek_v3"

        def get_text_config(self):
            return self

    class DeepseekV3TopkRouter(torch.nn.Module):
        pass

    model = torch.nn.Sequential(torch.nn.Identity(), DeepseekV3TopkRouter())
    model.config = Config()
    assert names.declare_router_logits(model)
    assert (names.router_recorder(model).target_class, names.router_recorder(model).index) == (DeepseekV3TopkRouter, 0)
    assert names.router_recorder(model[0]) is None


def test_rows_of_tiles_come_by_tile_or_as_one_tensor():
    whole = torch.arange(12.0).view(6, 2)
    by_tile = whole.view(3, 2, 2)
    for given in (whole, by_tile):
        assert torch.equal(names.rows_by_tile(given, 3), by_tile)
    pieces = [whole[:2], whole[2:]]
    assert names.rows_by_tile(pieces, 3) is pieces


def test_checkpointing_is_switched_under_every_name_that_the_arguments_have():
    class Arguments:
        gradient_checkpointing = False

    assert names.checkpointing_names(Arguments()) == ("gradient_checkpointing",)
    Arguments.activation_checkpointing = False
    assert names.checkpointing_names(Arguments()) == ("gradient_checkpointing", "activation_checkpointing")
