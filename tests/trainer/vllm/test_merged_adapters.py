"""Adapters are sent inside the weights, and the weights of the model stay as they are."""

import copy
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.vllm.merged_adapters import merged_in_copies
from triptych_trainer.options.vllm_refusals import check_sends_adapters
from triptych_trainer.upstream.trl_names import vllm_generation_module


class Experts(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = torch.nn.Parameter(torch.randn(2, 16, 16))


class Blocks(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(30, 16)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(16, 16) for _ in range(3))
        self.experts = Experts()


ADAPTERS = {
    "linear": {"target_modules": ["layers.0", "layers.1"]},
    "dora": {"target_modules": ["layers.0", "layers.1"], "use_dora": True},
    "with biases": {"target_modules": ["layers.0", "layers.1"], "lora_bias": True},
    "embedding": {"target_modules": ["embed", "layers.2"]},
    "parameter": {"target_modules": ["layers.0"], "target_parameters": ["experts.up"]},
    "saved whole": {"target_modules": ["layers.0"], "modules_to_save": ["layers.2"]},
}


def with_adapters(**options):
    torch.manual_seed(0)
    model = get_peft_model(Blocks().bfloat16(), LoraConfig(r=2, init_lora_weights=False, **options))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.mul_(0.1)
    return model


def sender_of(model):
    """What gives the weights in TRL's connection to vLLM, without the connection."""
    sender = SimpleNamespace(model=model, _dist=SimpleNamespace(is_fsdp=False, gather_params=lambda _: NoContext()))
    stock = vllm_generation_module().VLLMGeneration
    for name in ("_iter_named_params", "_fix_param_name_to_vllm"):
        setattr(sender, name, getattr(stock, name).__get__(sender))
    return sender


class NoContext:
    def __enter__(self):
        return None

    def __exit__(self, *_):
        return None


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def moved(before, model):
    return [name for name, parameter in model.named_parameters() if not torch.equal(before[name], parameter)]


@pytest.mark.parametrize("kind", ADAPTERS)
def test_adapters_are_merged_into_copies(kind):
    model = with_adapters(**ADAPTERS[kind])
    other = copy.deepcopy(model)
    expected = {name: weight.clone() for name, weight in sender_of(other)._iter_named_params()}
    before = weights(model)
    sent = dict(merged_in_copies(sender_of(model)._iter_named_params, model))
    assert sent.keys() == expected.keys()
    assert [name for name in sent if not torch.equal(sent[name], expected[name])] == []
    assert moved(before, model) == []
    assert moved(before, other), "TRL's own way moves the weights, or this test could not fail"
    model.merge_adapter()  # PEFT's own again
    assert moved(before, model)
    model.unmerge_adapter()


def test_a_model_without_adapters_is_sent_as_it_is():
    model = Blocks()
    sent = dict(merged_in_copies(model.named_parameters, model))
    assert all(sent[name] is parameter for name, parameter in model.named_parameters())


def test_weights_that_ranks_share_by_fsdp_take_no_adapters_to_vllm():
    with pytest.raises(UsageError, match=r"--use_vllm with adapters under FSDP: .*; use DDP or ZeRO, or leave out"):
        check_sends_adapters(use_vllm=True, has_adapters=True, fsdp=True)
    check_sends_adapters(use_vllm=True, has_adapters=True, fsdp=False)
