"""A few layers, extended, are the whole model traced: to the byte."""

import copy

import kits
import pytest
from shapes import SHAPES, shape_batch
from triptych_trainer.forecast.phases import FIRST_LAYERS, trace
from triptych_trainer.forecast.traced_passes import Setting


def numbers(traced) -> dict[str, float]:
    peaks = {name: peak for name, peak in traced.peaks.items() if name != FIRST_LAYERS}  # no peak of a deep model
    return {
        **peaks,
        "peak": traced.peak,
        "cache": traced.cache_bytes,
        "features": traced.features_bytes,
        "flops": traced.flops,
    }


@pytest.mark.slow
@pytest.mark.parametrize(("device", "checkpointing"), [("cpu", False), ("cuda", True)])
def test_a_deep_model_from_shallow_ones(plan_for, device, checkpointing):
    shape = SHAPES["qwen2_5_vl, deep"]
    model_config = shape.config()
    model_config.text_config.num_hidden_layers = 4  # more than are traced, and few enough to trace all of them, too
    model_config.text_config.layer_types = model_config.text_config.layer_types[:4]
    model_config.vision_config.depth = 4
    config, skeleton = plan_for(model_config, gradient_checkpointing=checkpointing)
    setting = Setting.of(config, device=device)
    for phase in ("generate", "policy"):  # scoring is the policy pass without its backward
        extended = trace(skeleton, shape_batch(shape), phase=phase, setting=setting)
        whole = trace(skeleton, shape_batch(shape), phase=phase, setting=setting, whole=True)
        assert numbers(extended) == numbers(whole), phase


@pytest.mark.slow
def test_two_kinds_of_layers_are_told_apart(plan_for):
    """Sliding windows keep less in the cache than full attention does."""
    shape = SHAPES["gemma3"]
    layers = ["sliding_attention"] * 4 + ["full_attention"] * 2
    model_config = shape.config()
    model_config.text_config.num_hidden_layers = len(layers)
    model_config.text_config.layer_types = layers
    config, skeleton = plan_for(model_config)
    setting = Setting.of(config, device="cpu")
    for phase in ("generate", "policy"):  # scoring is the policy pass without its backward
        extended = trace(skeleton, shape_batch(shape), phase=phase, setting=setting)
        whole = trace(skeleton, shape_batch(shape), phase=phase, setting=setting, whole=True)
        assert numbers(extended) == numbers(whole), phase


@pytest.mark.slow
def test_deepstack_rows_of_the_first_layers_are_not_multiplied(plan_for):
    case = kits.CASES["qwen3_vl"]
    processor = case.processor()
    model = case.model(processor.tokenizer)
    model_config = copy.deepcopy(model.config)
    model_config.text_config.num_hidden_layers = 7
    model_config.vision_config.depth = 6
    model_config.vision_config.deepstack_visual_indexes = [2, 4]
    config, skeleton = plan_for(model_config)
    prompts = kits.build_prompts(case, model, processor, images=(1, 0, 1), lengths=((5, 3), (4, 4), (6, 2)))
    batch = prompts.batch
    setting = Setting.of(config, device="cpu")
    extended, whole = (trace(skeleton, batch, phase="policy", setting=setting, whole=every) for every in (False, True))
    assert extended.peak == pytest.approx(whole.peak, rel=0.01)


@pytest.mark.slow
def test_attention_without_masks_keeps_neither_masks_nor_copied_keys(plan_for):
    shape = SHAPES["qwen2_5_vl, deep"]
    model_config = shape.config()
    text = model_config.text_config
    text.num_hidden_layers = model_config.vision_config.depth = 2
    text.layer_types = text.layer_types[:2]
    batch = shape_batch(shape)
    flops, peaks = {}, {}
    for choice in ("auto", "masked"):
        config, skeleton = plan_for(
            model_config, gradient_checkpointing=False, dtype="bfloat16", shared_attention=choice
        )
        traced = trace(skeleton, batch, phase="policy", setting=Setting.of(config, device="cuda"))
        peaks[choice], flops[choice] = traced.peak, traced.flops
    prefix, rows = len(batch.prompts[0]) - 1, 6 * 48
    masked = prefix * prefix / 2 + rows * (prefix + rows)  # one rectangle for all branches
    seen = prefix * (prefix + 1) / 2 + rows * prefix + 6 * 48 * 49 / 2
    assert flops["masked"] - flops["auto"] == (masked - seen) * 4 * text.hidden_size * 3.5 * text.num_hidden_layers
    assert peaks["masked"] - peaks["auto"] > 2 * rows * (prefix + rows), "no mask of each layer, in two bytes as a bias"
