"""Checkpointed layers keep what attention returned: the same gradients, and no attention a second time."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from triptych_trainer.forward import attention, shared_logps
from triptych_trainer.forward.encode import checkpointed_tower, encode_images
from triptych_trainer.forward.kept_attention import keeping_attention
from triptych_trainer.models.families import family_of

FORWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


class Calls(TorchDispatchMode):
    """Counts calls of the attention kernels."""

    def __init__(self):
        super().__init__()
        self.counts = {FORWARD: 0, BACKWARD: 0}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in self.counts:
            self.counts[func] += 1
        return func(*args, **(kwargs or {}))


def gradients(lab, model, call):
    model.zero_grad()
    with Calls() as calls:
        call().sum().backward()
    return lab.gradients(model), calls.counts


@pytest.mark.parametrize("merges", [False, True], ids=["masks", "merged"])
def test_attention_is_computed_once_and_the_gradients_are_those_of_plain_checkpointing(lab, monkeypatch, merges):
    monkeypatch.setattr(attention, "MERGE_TOKENS", 0 if merges else 10**6)
    model, batch = lab.qwen2_5_vl().train(), lab.qwen_batch()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    layer = model.model.language_model.layers[0]
    before = layer._gradient_checkpointing_func

    def kept():
        with keeping_attention(model):
            return shared_logps(model, batch)[0]

    expected, again = gradients(lab, model, lambda: shared_logps(model, batch)[0])
    got, once = gradients(lab, model, kept)
    assert once[FORWARD] == once[BACKWARD] == again[BACKWARD] == again[FORWARD] / 2 > 0
    assert layer._gradient_checkpointing_func is before, "only meanwhile"
    for name, values in expected.items():
        torch.testing.assert_close(got[name], values, rtol=0, atol=0)


def test_the_tower_whose_graph_generation_keeps_computes_its_attention_once(lab):
    model, batch = lab.qwen2_5_vl().train(), lab.qwen_batch()
    expected, whole = gradients(lab, model, lambda: encode_images(model, batch.images).rows)

    def kept():
        with checkpointed_tower(family_of(model), model.model):
            return encode_images(model, batch.images).rows

    got, once = gradients(lab, model, kept)
    assert once == whole
    for name, values in expected.items():
        torch.testing.assert_close(got[name], values, rtol=0, atol=1e-7)


@pytest.mark.parametrize("checkpointing", [{"use_reentrant": True}, None], ids=["reentrant", "none"])
def test_other_layers_stay_as_they_are(lab, checkpointing):
    model = copy.deepcopy(lab.qwen2_5_vl()).train()
    if checkpointing:
        model.gradient_checkpointing_enable(checkpointing)
    before = [getattr(module, "_gradient_checkpointing_func", None) for module in model.modules()]
    with keeping_attention(model):
        assert [getattr(module, "_gradient_checkpointing_func", None) for module in model.modules()] == before
