"""What only a GPU can tell of the trainer: ``python device_steps.py [--cpu-tiny]``.

First the table of `device_attention`. Then three training steps of a model of Qwen2.5-VL-3B's shape: random weights,
one prompt with 4 images of 448 x 448, G = 8, C = 128, bfloat16, AdamW on all weights, gradient checkpointing. A step
samples, scores with gradient and updates, by Triptych's engine without TRL. Where TRL is installed, its own trainer
makes three steps on the same sizes, and the forecast of `triptych plan` for the policy pass is printed next to the peak
that was measured. Packages that are missing are named.
"""

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import device_attention
import torch
from device_attention import synchronize
from transformers import GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from triptych_parser import ImageSpan
from triptych_trainer.forward import GroupBatch, install_hooks
from triptych_trainer.forward.tower_attention import TOWER_IMPLEMENTATION
from triptych_trainer.grpo.engine import GroupEngine

NUM_STEPS = 3
IMAGE, START, END = 10, 11, 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """Dimensions of a model and its batch; those of Qwen2.5-VL-3B by default."""

    hidden: int = 2048
    inner: int = 11008
    layers: int = 36
    heads: int = 16
    kv_heads: int = 2
    vocabulary: int = 151936
    vision_hidden: int = 1280
    vision_inner: int = 3420
    vision_layers: int = 32
    vision_heads: int = 16
    side_pixels: int = 448
    num_images: int = 4
    group: int = 8
    completion_tokens: int = 128
    dtype: torch.dtype = torch.bfloat16

    @property
    def patches(self) -> int:
        """Patches of 14 pixels along a side of an image; two by two they are a token."""
        return self.side_pixels // 14


TINY = Size(
    hidden=64,
    inner=96,
    layers=2,
    heads=4,
    kv_heads=2,
    vocabulary=512,
    vision_hidden=32,
    vision_inner=48,
    vision_layers=2,
    vision_heads=2,
    side_pixels=56,
    num_images=2,
    group=2,
    completion_tokens=4,
    dtype=torch.float32,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What one step took."""

    generation_seconds: float | None
    policy_seconds: float | None
    seconds: float
    peak_bytes: int | None


def main(argv: Sequence[str] | None = None) -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu-tiny", action="store_true", help="a tiny model in float32 on the CPU, to run every line")
    parser.add_argument("--no-trl", action="store_true", help="leave out TRL's steps")
    options = parser.parse_args(argv)
    device, size = torch.device("cpu" if options.cpu_tiny else "cuda"), TINY if options.cpu_tiny else Size()
    device_attention.main(["--cpu-tiny"] if options.cpu_tiny else [])
    ours(size, device=device)
    gc.collect()
    if not options.no_trl:
        print(attempt(lambda: stock(size, device=device)), flush=True)


def ours(size: Size, *, device: torch.device) -> None:
    """Print the lines of Triptych's steps, and the forecast."""
    torch.manual_seed(0)
    model = build_model(size, device=device)
    batch = build_batch(size)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"\nThree steps: {parameters / 1e9:.2f} G parameters, {str(size.dtype).removeprefix('torch.')} on {device}, ")
    print(f"P = {len(batch.prompts[0])}, {size.num_images} images, G = {size.group}, C = {size.completion_tokens}\n")
    print("| trainer | step | generation s | policy pass s | step s | peak GB |\n|---|---|---|---|---|---|")
    for number, step in enumerate(steps(model, batch, size, device=device), start=1):
        print(line("Triptych", number, step), flush=True)
    print(
        f"\ntower: {model.model.visual.config._attn_implementation} ({TOWER_IMPLEMENTATION}: all windows in one call)"
    )
    print(attempt(lambda: forecast(model, batch, size, device=device)), flush=True)


def attempt(part: Callable[[], str]) -> str:
    """What a part prints, or which package it misses, or how it failed: the other parts are printed all the same."""
    try:
        return part()
    except ModuleNotFoundError as error:
        return f"left out: {error}; put its wheel into the folder that TRIPTYCH_WHEELS names"
    except RuntimeError as error:
        return f"failed: {' '.join(str(error).split())[:300]}"


def line(name: str, number: int, step: Step) -> str:
    """A row of the table."""
    seconds = (step.generation_seconds, step.policy_seconds, step.seconds)
    cells = [name, str(number), *("-" if value is None else f"{value:.2f}" for value in seconds)]
    cells.append("-" if step.peak_bytes is None else f"{step.peak_bytes / 1e9:.2f}")
    return f"| {' | '.join(cells)} |"


def build_model(size: Size, *, device: torch.device) -> Qwen2_5_VLForConditionalGeneration:
    """Random weights, made on the device, with gradient checkpointing."""
    width = size.hidden // size.heads // 2
    sections = [width - 2 * (3 * width // 8), 3 * width // 8, 3 * width // 8]
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": size.vocabulary,
            "hidden_size": size.hidden,
            "intermediate_size": size.inner,
            "num_hidden_layers": size.layers,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.kv_heads,
            "max_position_embeddings": 32768,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections},
            "bos_token_id": None,
            "eos_token_id": 1,
            "pad_token_id": 0,
        },
        vision_config={
            "depth": size.vision_layers,
            "hidden_size": size.vision_hidden,
            "intermediate_size": size.vision_inner,
            "num_heads": size.vision_heads,
            "out_hidden_size": size.hidden,
            "fullatt_block_indexes": sorted({*range(7, size.vision_layers, 8), size.vision_layers - 1}),
        },
        image_token_id=IMAGE,
        vision_start_token_id=START,
        vision_end_token_id=END,
        video_token_id=13,
        eos_token_id=1,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(size.dtype)
    try:
        with torch.device(device):
            model = Qwen2_5_VLForConditionalGeneration(config).train()
    finally:
        torch.set_default_dtype(before)
    model = model.to(device)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    install_hooks(model)
    return model


def build_batch(size: Size) -> GroupBatch:
    """One prompt: text, and images of noise between their marks."""
    generator = torch.Generator().manual_seed(0)
    ids, spans = [*range(20, 40)], []
    length = (size.patches // 2) ** 2
    for number in range(size.num_images):
        spans.append(ImageSpan(start=len(ids) + 1, length=length, image=number, runs=((len(ids) + 1, length),)))
        ids += [START, *[IMAGE] * length, END, *range(20, 30)]
    pixels = [torch.randn(size.patches**2, 3 * 2 * 14 * 14, generator=generator) for _ in spans]
    grid = torch.tensor([[1, size.patches, size.patches]])
    images = [{"pixel_values": values, "image_grid_thw": grid} for values in pixels]
    return GroupBatch.build([ids], spans=[spans], images=images)


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
        return (
            f"forecast of the policy pass beyond weights and gradients: {planned / 1e6:.1f} MB (not measured on a CPU)"
        )
    add_fused_lm_head(model, temperature=1.0, outputs=("log_probs", "entropy"))
    engine = GroupEngine(verify=False)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    engine.logps(model, scored, keys=[0]).logps_BC.sum().backward()
    measured = torch.cuda.max_memory_allocated() - before
    return (
        f"policy pass beyond weights, gradients and optimizer: forecast {planned / 1e9:.2f} GB, measured "
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
    return "\n".join(line("TRL", number, step) for number, step in enumerate(clock.found, start=1))


if __name__ == "__main__":
    main()
