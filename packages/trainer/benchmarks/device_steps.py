"""Three training steps on a device: ``python device_steps.py [--trainer triptych] [--trainer trl] [--cpu-tiny]``.

A model of Qwen2.5-VL-3B's shape: random weights, one prompt with 4 images of 448 x 448, G = 8, C = 128, bfloat16,
AdamW on all weights, gradient checkpointing. A step samples, scores with gradient and updates, by Triptych's engine
without TRL. Where TRL is installed, the forecast of `triptych plan` for the policy pass is printed next to the measured
peak, and TRL's own trainer makes three steps on the same sizes. A part that needs TRL is left out where TRL or datasets
is not installed, and a line says so; the exit code is 69 if nothing else was asked for, and 1 if a part failed.
`scripts/gpu_check.sh` shows the lines that begin with RESULT.
"""

import argparse
import gc
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from device_attention import synchronize
from device_model import TINY, Size, build_batch, build_model
from transformers import GenerationConfig
from triptych_trainer.forward import GroupBatch
from triptych_trainer.forward.tower_attention import TOWER_IMPLEMENTATION
from triptych_trainer.grpo.engine import GroupEngine

NUM_STEPS = 3
LEFT_OUT = 69
"""The exit code if all that was asked for needs a package that is not installed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What one step took."""

    generation_seconds: float | None
    policy_seconds: float | None
    seconds: float
    peak_bytes: int | None


def main(argv: Sequence[str] | None = None) -> int:
    """Print one table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu-tiny", action="store_true", help="a tiny model in float32 on the CPU, to run every line")
    parser.add_argument("--trainer", action="append", choices=["triptych", "trl"], help="default: one after the other")
    options = parser.parse_args(argv)
    device, size = torch.device("cpu" if options.cpu_tiny else "cuda"), TINY if options.cpu_tiny else Size()
    trainers = options.trainer or ["triptych", "trl"]
    print("| trainer | step | generation s | policy pass s | step s | peak GB |\n|---|---|---|---|---|---|", flush=True)
    codes = []
    if "triptych" in trainers:
        codes += [0, ours(size, device=device)]
        gc.collect()
    if "trl" in trainers:
        codes.append(with_trl("three steps of TRL", lambda: stock(size, device=device)))
    return 1 if 1 in codes else min(codes)


def ours(size: Size, *, device: torch.device) -> int:
    """Print the lines of Triptych's steps, and the forecast; returns the exit code of the forecast."""
    torch.manual_seed(0)
    model = build_model(size, device=device)
    batch = build_batch(size)
    found = steps(model, batch, size, device=device)
    print("\n".join(line("Triptych", number, step) for number, step in enumerate(found, start=1)))
    parameters = sum(p.numel() for p in model.parameters())
    print(
        f"RESULT model: {parameters / 1e9:.2f} G parameters, {str(size.dtype).removeprefix('torch.')} on {device}, "
        f"P = {len(batch.prompts[0])}, {size.num_images} images, G = {size.group}, C = {size.completion_tokens}"
    )
    print(result("Triptych", found))
    tower = model.model.visual.config._attn_implementation
    print(f"RESULT tower: {tower} ({TOWER_IMPLEMENTATION} computes all windows in one call)", flush=True)
    return with_trl("forecast of memory", lambda: forecast(model, batch, size, device=device))


def result(name: str, found: Sequence[Step]) -> str:
    """The last step, in which nothing is compiled or allocated for the first time."""
    last = found[-1]
    parts = [
        ("generation", last.generation_seconds),
        ("policy pass", last.policy_seconds),
        ("whole step", last.seconds),
    ]
    shown = ", ".join(f"{part} {seconds:.2f} s" for part, seconds in parts if seconds is not None)
    peak = "" if last.peak_bytes is None else f", peak {last.peak_bytes / 1e9:.2f} GB"
    return f"RESULT step {len(found)} of {name}: {shown}{peak}"


def with_trl(name: str, part: Callable[[], str]) -> int:
    """Print what a part that needs TRL gives, that it is left out, or how it failed; returns its exit code."""
    missing = [package for package in ("trl", "datasets") if find_spec(package) is None]
    if missing:
        wheels = "put its wheel into the folder that TRIPTYCH_WHEELS names"
        print(f"RESULT left out: {name}, because {' and '.join(missing)} is not installed; {wheels}", flush=True)
        return LEFT_OUT
    try:
        print(part(), flush=True)
    except Exception as error:  # the parts after it still run
        traceback.print_exc()
        said = " ".join(str(error).split())[:300]
        print(f"RESULT FAILED: {name}: {type(error).__name__}: {said}", flush=True)
        return 1
    return 0


def line(name: str, number: int, step: Step) -> str:
    """A row of the table."""
    seconds = (step.generation_seconds, step.policy_seconds, step.seconds)
    cells = [name, str(number), *("-" if value is None else f"{value:.2f}" for value in seconds)]
    cells.append("-" if step.peak_bytes is None else f"{step.peak_bytes / 1e9:.2f}")
    return f"| {' | '.join(cells)} |"


def steps(model: Any, batch: GroupBatch, size: Size, *, device: torch.device) -> list[Step]:
    """Sample, score with gradient, update; gradients and the optimizer's state stay, as a forecast counts them."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=device.type == "cuda")
    engine = GroupEngine(fused_lm_head=False, trains_once=True, checkpoints_tower=True)
    tokens = size.completion_tokens
    sampling = GenerationConfig(
        max_new_tokens=tokens, min_new_tokens=tokens, do_sample=True, pad_token_id=0, eos_token_id=1, use_cache=True
    )
    found = []
    for number in range(NUM_STEPS):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        began = now(device)
        model.eval()
        groups = engine.generate(model, batch, keys=[0], group_sizes=[size.group], generation_config=sampling)
        model.train()
        sampled = now(device)
        scored = batch.with_completions(groups)
        scores = engine.logps(model, scored, keys=[0], compute_entropy=True)
        gains_B1 = torch.linspace(-1, 1, size.group, device=device)[:, None]
        loss = -(torch.exp(scores.logps_BC - scores.logps_BC.detach()) * gains_B1).mean()
        loss.backward()
        trained = now(device)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        engine.forget()
        done = now(device)
        assert bool(torch.isfinite(loss)), f"the loss of step {number + 1} is {float(loss)}"
        peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
        found.append(
            Step(
                generation_seconds=sampled - began,
                policy_seconds=trained - sampled,
                seconds=done - began,
                peak_bytes=peak,
            )
        )
    return found


def now(device: torch.device) -> float:
    """The clock, when the device has done what it was given."""
    synchronize(device)
    return time.perf_counter()


def forecast(model: Any, batch: GroupBatch, size: Size, *, device: torch.device) -> str:
    """The peak of the policy pass: what `triptych plan` would say, and what a pass with TRL's fused head takes."""
    from triptych_trainer.forecast.phases import trace
    from triptych_trainer.forecast.skeleton import build_skeleton
    from triptych_trainer.forecast.traced_passes import Setting
    from triptych_trainer.options.arguments import parse_run
    from trl.trainer.utils import add_fused_lm_head

    scored = batch.with_completions([[[20] * size.completion_tokens] * size.group])
    named = {"model_name_or_path": "unused", "data": "unused", "output_dir": "unused", "bf16": "false"}
    named |= {"gradient_checkpointing": "true", "dtype": str(size.dtype).removeprefix("torch.")}
    config = parse_run([word for name, value in named.items() for word in (f"--{name}", value)])
    skeleton = build_skeleton(config, model_config=model.config)
    planned = trace(skeleton, scored, phase="policy", setting=Setting.of(config, device=device.type)).peak
    if device.type == "cpu":
        beyond = f"beyond weights and gradients: {planned / 1e6:.1f} MB"
        return f"RESULT forecast of the policy pass {beyond} (not measured on a CPU)"
    add_fused_lm_head(model, temperature=1.0, outputs=("log_probs", "entropy"))
    engine = GroupEngine(verify=False)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    engine.logps(model, scored, keys=[0]).logps_BC.sum().backward()
    measured = torch.cuda.max_memory_allocated() - before
    return (
        f"RESULT policy pass beyond weights, gradients and optimizer: forecast {planned / 1e9:.2f} GB, measured "
        f"{measured / 1e9:.2f} GB, ratio {planned / measured:.2f}"
    )


def stock(size: Size, *, device: torch.device) -> str:
    """Three steps of TRL's own trainer on a model of the same sizes and on as many images and tokens."""
    import subject
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        """Seconds and peak of every step, generation included."""

        found: list[Step]

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.found, self.began = [], now(device)

        def on_step_end(self, *_: Any, **__: Any) -> None:
            ended = now(device)
            peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
            self.found.append(
                Step(generation_seconds=None, policy_seconds=None, seconds=ended - self.began, peak_bytes=peak)
            )
            self.began = ended

    with tempfile.TemporaryDirectory() as folder:
        data = subject.write_prompts(
            Path(folder), num_images=size.num_images, side_pixels=size.side_pixels, num_prompts=NUM_STEPS
        )
        args = subject.config(
            Path(folder),
            group=size.group,
            completion_tokens=size.completion_tokens,
            max_steps=NUM_STEPS,
            use_cpu=device.type == "cpu",
            bf16=False,
            beta=0.0,
        )
        model = subject.with_ids_of_tokenizer(build_model(size, device=device))
        trainer = subject.stock_trainer(data, args, model=model)
        clock = Clock()
        trainer.add_callback(clock)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        trainer.train()
    lines = [line("TRL", number, step) for number, step in enumerate(clock.found, start=1)]
    return "\n".join([*lines, result("TRL", clock.found)])


if __name__ == "__main__":
    sys.exit(main())
