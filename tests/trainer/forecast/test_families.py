"""Families are traced through their own code, on both kinds of device."""

from dataclasses import replace

import kits
import pytest
import torch
from packaging.version import Version
from triptych_trainer.forecast.phases import trace
from triptych_trainer.forecast.traced_passes import DECODE, Setting
from triptych_trainer.forward import generate, install_hooks, packed_weights
from triptych_trainer.grpo.engine import GroupEngine

LENGTHS = ((5, 3), (4, 4), (6, 2))
KINDS = ("qwen3_vl_moe", "qwen3_5", "llava", "gemma3", "gemma4_small", "internvl_gpt_oss", "paligemma")
"""One family of every kind: experts, linear attention, one tile, both ways, shared keys, sinks, the plain pass."""

LAYERS = ["sliding_attention", "full_attention"]
WITH_GROUPED_EXPERTS = ("qwen3_vl_moe", "internvl_gpt_oss")


def built(name: str, *, lengths=LENGTHS):
    """A family's model and a batch of three prompts."""
    case = kits.CASES[name]
    processor = case.processor()
    model = case.model(processor.tokenizer).eval()
    prompts = kits.build_prompts(case, model, processor, images=(1, 0, 1), lengths=lengths)
    return model, prompts.batch


def kept_cache_bytes(model, batch, monkeypatch) -> int:
    """Bytes of a real cache after a real generation of ``batch``'s longest completion."""
    caches = []
    stock = generate.repeated

    def recording(*args, **kwargs):
        start = stock(*args, **kwargs)
        caches.append(start.cache)
        return start

    monkeypatch.setattr(generate, "repeated", recording)
    install_hooks(model)
    config = model.generation_config
    config.max_new_tokens = config.min_new_tokens = batch.max_completion_tokens
    config.do_sample = False
    keys = range(len(batch.prompts))
    sizes = [len(group) for group in batch.completions]
    GroupEngine().generate(model, batch, keys=keys, group_sizes=sizes, generation_config=config)
    return sum(layer_bytes(layer) for layer in caches[0].layers)


def layer_bytes(layer) -> int:
    """Bytes of the prompts' keys and values, and of the rows' own ones, wherever the layer keeps them."""
    names = ("prompt_keys", "prompt_values", "keys", "values")
    tensors = [value for name, value in vars(layer).items() if isinstance(value, torch.Tensor) and name in names]
    decoded = getattr(layer, "decoded", None)
    if decoded is not None:  # the layer's own keys and values are those of the last token
        prompts = [part for keys_and_values in decoded.prompts for part in keys_and_values]
        read_in_place = layer.prompt_values.untyped_storage().data_ptr()
        copies = [part for part in prompts if part.untyped_storage().data_ptr() != read_in_place]
        tensors = [layer.prompt_keys, layer.prompt_values, decoded.keys, decoded.values, *copies]
    return sum(value.numel() * value.element_size() for value in tensors)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_family_is_forecast(name, plan_for):
    if name in WITH_GROUPED_EXPERTS and Version(torch.__version__).release < (2, 14):
        pytest.skip("torch 2.13 traces the experts' matrix product with bfloat16 weights only")
    model, batch = built(name)
    config, skeleton = plan_for(model.config, bf16=True)
    peaks = {}
    for device, phase in (("cpu", "generate"), ("cpu", "policy"), ("cuda", "policy")):
        traced = trace(skeleton, batch, phase=phase, setting=Setting.of(config, device=device))
        peaks[device, phase] = traced.peak
        assert traced.flops > 0
    # The same code with other kernels, and on CUDA without all logits at once. The kernels' backward pass rounds each
    # segment up to 128 rows, which is much beside so few tokens.
    assert peaks["cuda", "policy"] == pytest.approx(peaks["cpu", "policy"], rel=0.45)
    assert peaks["cpu", "policy"] > peaks["cpu", "generate"] / 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen3_vl", "gemma3", "internvl"])
def test_the_cache_has_the_size_that_generation_leaves(name, plan_for, monkeypatch):
    model, batch = built(name, lengths=((6, 6), (6, 6), (6, 6)))
    config, skeleton = plan_for(model.config)
    traced = trace(skeleton, batch, phase="generate", setting=Setting.of(config, device="cpu"))
    assert traced.cache_bytes == kept_cache_bytes(model, batch, monkeypatch)


@pytest.mark.slow
def test_layers_that_share_keys_are_traced_whole_however_many_there_are(plan_for, monkeypatch):
    """As in Gemma 4 E4B: which layer gives its keys depends on all of them, so that none can be left out."""
    case = kits.CASES["gemma4_small"]
    processor = case.processor()
    more = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": len(processor.tokenizer)}
    layers = {"num_hidden_layers": 12, "num_kv_shared_layers": 4, "layer_types": LAYERS * 6}
    model = kits.gemma.gemma4(processor.tokenizer, use_bidirectional_attention=None, **layers, **more).eval()
    batch = kits.build_prompts(case, model, processor, images=(1, 0, 1), lengths=((6, 6), (6, 6), (6, 6))).batch
    config, skeleton = plan_for(model.config)
    traced = trace(skeleton, batch, phase="generate", setting=Setting.of(config, device="cpu"))
    assert traced.cache_bytes == kept_cache_bytes(model, batch, monkeypatch)


@pytest.mark.slow
def test_the_graph_that_generation_keeps_for_the_policy_pass_is_counted(plan_for):
    model, batch = built("qwen3_vl")
    config, skeleton = plan_for(model.config, gradient_checkpointing=False)
    without, kept, checkpointed = (
        trace(skeleton, batch, phase="generate", setting=setting)
        for setting in (
            Setting.of(config, device="cpu"),
            replace(Setting.of(config, device="cpu", trains_once=True), keeps_prompts=False),
            replace(Setting.of(config, device="cpu", trains_once=True), checkpoints_tower=True, keeps_prompts=False),
        )
    )
    prompts = trace(
        skeleton, batch, phase="generate", setting=replace(Setting.of(config, device="cpu"), keeps_prompts=True)
    )
    assert prompts.graph_bytes > prompts.cache_bytes
    assert prompts.peaks[DECODE] == pytest.approx(without.peaks[DECODE] + prompts.graph_bytes, rel=0.1)
    assert without.graph_bytes == 0
    assert kept.graph_bytes > checkpointed.graph_bytes > 0
    for traced in (kept, checkpointed):
        assert traced.peaks[DECODE] == pytest.approx(without.peaks[DECODE] + traced.graph_bytes, rel=0.1)
        assert traced.features_bytes == without.features_bytes


@pytest.mark.slow
def test_the_copies_of_weights_with_which_a_cpu_decodes_are_counted(plan_for, monkeypatch):
    model, batch = built("qwen3_vl", lengths=((16, 3), (4, 4), (6, 2)))
    config, skeleton = plan_for(model.config)
    setting = Setting.of(config, device="cpu")
    monkeypatch.setattr(packed_weights, "_MIN_ELEMENTS", 1)
    copied = packed_weights.packable(model)
    with_copies = trace(skeleton, batch, phase="generate", setting=setting).peaks[DECODE]
    monkeypatch.setattr(packed_weights, "_MIN_ELEMENTS", 1 << 40)
    without = trace(skeleton, batch, phase="generate", setting=setting).peaks[DECODE]
    assert with_copies - without == sum(layer.weight.numel() * layer.weight.element_size() for layer in copied)
