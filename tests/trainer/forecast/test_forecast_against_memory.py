"""The forecast of a policy pass or a generation against resident memory of a process of its own that runs it."""

import json
from pathlib import Path

import pytest
from shapes import SHAPES, shape_batch
from triptych_trainer.forecast.phases import trace
from triptych_trainer.forecast.traced_passes import Setting


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads resident memory from /proc")
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ("qwen2_5_vl, wide", {"gradient_checkpointing": True}),
        ("qwen2_5_vl, deep", {"gradient_checkpointing": False, "freeze_vision_modules": True}),
        ("qwen2_5_vl, deep", {"gradient_checkpointing": False, "attn_implementation": "eager"}),
        ("gemma3", {"gradient_checkpointing": False}),
        ("internvl", {"gradient_checkpointing": False, "turns": 2}),  # a prompt without images, too
        ("qwen2_5_vl, wide", {"gradient_checkpointing": False, "generates": True, "bf16": True}),
    ],
    ids=str,
)
def test_peak_activations_are_within_a_fifth_of_resident_memory(shape, options, plan_for, fork):
    turns, generates = options.get("turns", 0), options.get("generates", False)
    named = {key: value for key, value in options.items() if key not in ("turns", "generates")}
    config, skeleton = plan_for(SHAPES[shape].config(), **named)
    setting = Setting.of(config, device="cpu", trains_once=generates)
    phase = "generate" if generates else "policy"
    forecast = trace(skeleton, shape_batch(SHAPES[shape], turns=turns), phase=phase, setting=setting).peak
    script = Path(__file__).with_name("measure.py")
    run = fork(shape, json.dumps(options), environment={}, script=script).wait()
    assert run.returncode == 0, run.stderr[-2000:]
    measured = json.loads(run.stdout.splitlines()[-1])["bytes"]
    assert measured > 96 * 2**20, "large enough for the noise of an allocator to be small"
    assert abs(forecast - measured) < 0.2 * measured, f"forecast {forecast / 2**20:.0f} MiB, {measured / 2**20:.0f} MiB"
