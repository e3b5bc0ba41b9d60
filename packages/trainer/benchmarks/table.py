"""Triptych against stock TRL 1.16 in one process: ``python table.py [--steps] [--passes] [--saved] [--grid]``.

Every number is CPU time of one thread, the two alternating, the smallest of the rounds. Without flags all sections run.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from meters import ImageCalls, PeakMemory, alternate, count_image_calls, cpu_seconds, saved_bytes
from subject import (
    PASS,
    STEP,
    build_model,
    config,
    group_batch,
    prepare_prompt,
    stock_logps,
    stock_trainer,
    triptych_trainer,
    write_prompts,
)
from transformers import TrainerCallback
from transformers.utils import logging as transformers_logging
from triptych_data import ImageLoader
from triptych_trainer.forward import encode_images, install_hooks, plain_logps, shared_logps
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer

ROWS = 4
"""Rows of a replicated micro-batch; its time is linear in rows, so a group of G takes G / ROWS of it."""


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables that the flags name."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in SECTIONS:
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--rounds", type=int, default=1, help="times around; the smallest number counts")
    parser.add_argument("--completion-tokens", type=int, nargs="+", default=[32, 128], help="of --passes and --grid")
    parser.add_argument("--images", type=int, default=4, help="of --passes: images of 256 tokens in the prompt")
    parser.add_argument("--grid-images", type=int, nargs="+", default=[1, 2, 4, 8], help="of --grid")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    chosen = [name for name in SECTIONS if getattr(options, name)] or list(SECTIONS)
    for name in chosen:
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            SECTIONS[name](Path(folder), options)
        print(f"\n({name}: {time.monotonic() - start:.0f} s wall)\n", flush=True)


def steps(folder: Path, options: argparse.Namespace) -> None:
    """Whole steps: decoding, generation, rewards, all passes, backward, optimizer."""
    data = write_prompts(folder, num_images=4, side_pixels=448, num_prompts=2)
    settings: dict[str, dict[str, Any]] = {
        "beta 0, 1 iteration, all trained": {},
        "beta 0.04, 2 iterations, frozen vision": {"beta": 0.04, "num_iterations": 2},
    }
    print("Whole step, 4 images of 448 x 448 (256 tokens each), G = 8, C = 32\n")
    print("| setting | TRL s | Triptych s | ratio | target | TRL images preprocessed / encoded | Triptych |")
    print("|---|---|---|---|---|---|---|")
    for (name, changes), target in zip(settings.items(), (5, 8), strict=True):
        frozen, calls = "frozen" in name, dict[str, ImageCalls]()
        args = config(folder, group=8, completion_tokens=32, **changes)

        def stock(args: Any = args, frozen: bool = frozen, calls: dict[str, ImageCalls] = calls) -> float:
            trainer = stock_trainer(data, args, size=STEP, freeze_vision=frozen)
            return timed_cycle(trainer, calls=calls, name="trl", warm_up=0)

        def ours(args: Any = args, frozen: bool = frozen, calls: dict[str, ImageCalls] = calls) -> float:
            return triptych_cycle(data, args, frozen=frozen, calls=calls)[0]

        seconds = alternate({"trl": stock, "triptych": ours}, rounds=options.rounds)
        ratio = seconds["trl"] / seconds["triptych"]
        counts = " | ".join(f"{calls[kind].preprocessed} / {calls[kind].encoded}" for kind in ("trl", "triptych"))
        cells = f"{name} | {seconds['trl']:.2f} | {seconds['triptych']:.2f} | {ratio:.2f} | >= {target} | {counts}"
        print(f"| {cells} |", flush=True)


def triptych_cycle(
    data: Path,
    args: Any,
    *,
    frozen: bool = False,
    calls: dict[str, ImageCalls] | None = None,
    after: MultiImageGRPOTrainer | None = None,
) -> tuple[float, MultiImageGRPOTrainer]:
    """CPU seconds of one generation cycle, and the trainer.

    The first cycle of a run also checks the shared pass against the plain one: it is left out. ``after`` a trainer
    whose model has been checked there is no first cycle to leave out.
    """
    with ImageLoader(threads=1) as loader:
        model = None if after is None else after.model
        trainer = triptych_trainer(data, args, size=STEP, loader=loader, freeze_vision=frozen, model=model)
        if after is not None:
            trainer.engine = after.engine
        counted = {} if calls is None else calls
        return timed_cycle(trainer, calls=counted, name="triptych", warm_up=int(after is None)), trainer


def timed_cycle(trainer: Any, *, calls: dict[str, ImageCalls], name: str, warm_up: int) -> float:
    """CPU seconds and image calls of one generation with all its steps, on a prompt not seen before."""
    cycle = trainer.args.num_iterations
    trainer.args.max_steps = (warm_up + 1) * cycle
    trainer.log = lambda *args, **kwargs: None
    models = [model for model in (trainer.model, trainer.ref_model) if model is not None]
    with count_image_calls(trainer.processing_class, models) as counted:
        clock = StepClock(counted, from_step=warm_up * cycle)
        trainer.add_callback(clock)
        trainer.train()
    calls[name] = ImageCalls(
        preprocessed=counted.preprocessed - clock.before.preprocessed, encoded=counted.encoded - clock.before.encoded
    )
    return clock.seconds


class StepClock(TrainerCallback):
    """CPU time and image calls from the end of step ``from_step`` to that of the last one.

    Step 0 ends where training begins, after what Accelerate prepares once in a run.
    """

    def __init__(self, counted: ImageCalls, *, from_step: int) -> None:
        self.counted = counted
        self.from_step = from_step
        self.started = time.process_time()
        self.before = replace(counted)
        self.seconds = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock where it begins with the first step."""
        if self.from_step == 0:
            self.started, self.before = time.process_time(), replace(self.counted)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock, or read it."""
        if state.global_step == self.from_step:
            self.started, self.before = time.process_time(), replace(self.counted)
        else:
            self.seconds = time.process_time() - self.started


def passes(folder: Path, options: argparse.Namespace) -> None:
    """Forward and backward of the policy pass alone, tower trained and tower left out."""
    prompt = prepare_prompt(write_prompts(folder, num_images=options.images, side_pixels=448))
    stock, model = build_model(PASS), build_model(PASS)
    install_hooks(model)
    features = encode_images(model, prompt.image_inputs)
    features = features.detach() if features is not None else None
    print(f"Forward + backward, P = {len(prompt.ids)} tokens, {options.images} images; replicated rows: {ROWS}\n")
    print("| C | G | full: plain s | shared s | ratio | token ratio | LM alone: plain s | shared s | ratio | 0.7 x |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for completion_tokens in options.completion_tokens:
        four = group_batch(prompt, group=ROWS, completion_tokens=completion_tokens)
        run: dict[str, Callable[[], torch.Tensor]] = {
            "full": lambda four=four: stock_logps(stock, four, rows=ROWS),
            "llm": lambda four=four: plain_logps(model, four, features=features)[0],
        }
        for group in (4, 8, 16):
            batch = group_batch(prompt, group=group, completion_tokens=completion_tokens)
            run[f"full {group}"] = lambda batch=batch: shared_logps(model, batch)[0]
            run[f"llm {group}"] = lambda batch=batch: shared_logps(model, batch, features=features)[0]
        timed = {
            name: (lambda forward=forward: cpu_seconds(lambda: forward().sum().backward()))
            for name, forward in run.items()
        }
        seconds = alternate(timed, rounds=options.rounds)
        for group in (4, 8, 16):
            bound = group * (len(prompt.ids) + completion_tokens) / (len(prompt.ids) + group * completion_tokens)
            cells = [f"{completion_tokens}", f"{group}"]
            for kind, limit in (("full", bound), ("llm", 0.7 * bound)):
                plain, shared = seconds[kind] * group / ROWS, seconds[f"{kind} {group}"]
                cells += [f"{plain:.2f}", f"{shared:.2f}", f"{plain / shared:.2f}", f"{limit:.2f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


def saved(folder: Path, options: argparse.Namespace) -> None:
    """Memory that autograd keeps between forward and backward."""
    prompt = prepare_prompt(write_prompts(folder, num_images=4, side_pixels=448))
    stock = build_model(PASS)
    model = copy.deepcopy(stock)
    install_hooks(model)
    print(
        f"Saved for the backward pass, P = {len(prompt.ids)}, C = 32, no checkpointing (target: at most 1/4 at G = 8)\n"
    )
    print("| G | plain MB | shared MB | share |")
    print("|---|---|---|---|")
    for group in (4, 8, 16):
        batch = group_batch(prompt, group=group, completion_tokens=32)
        rows = min(group, ROWS)
        plain = saved_bytes(stock, lambda batch=batch, rows=rows: stock_logps(stock, batch, rows=rows)) * group / rows
        shared = saved_bytes(model, lambda batch=batch: shared_logps(model, batch)[0])
        print(f"| {group} | {plain / 1e6:.0f} | {shared / 1e6:.0f} | 1/{plain / shared:.2f} |", flush=True)


def grid(folder: Path, options: argparse.Namespace) -> None:
    """Triptych's whole step over images, group size and completion length."""
    print("Whole step of Triptych by images of 256 tokens, completions G and their length C\n")
    print("| images | P | G | C | s | tokens/s | peak MB |")
    print("|---|---|---|---|---|---|---|")
    trainer = None
    for num_images in options.grid_images:
        inner = folder / str(num_images)
        inner.mkdir()
        data = write_prompts(inner, num_images=num_images, side_pixels=448, num_prompts=2)
        prompt_tokens = len(prepare_prompt(data).ids)
        for group in (4, 8, 16):
            for completion_tokens in options.completion_tokens:
                args = config(inner, group=group, completion_tokens=completion_tokens)
                peak = PeakMemory()
                seconds, trainer = triptych_cycle(data, args, after=trainer)
                tokens = group * (prompt_tokens + completion_tokens)
                row = (num_images, prompt_tokens, group, completion_tokens, f"{seconds:.2f}", f"{tokens / seconds:.0f}")
                print(f"| {' | '.join(map(str, row))} | {peak.bytes() / 1e6:.0f} |", flush=True)


SECTIONS = {"steps": steps, "passes": passes, "saved": saved, "grid": grid}

if __name__ == "__main__":
    main()
