"""Whole steps against stock TRL at several completion lengths: ``python whole.py [--images 4 16] [--lengths 32 256]``.

One prompt, G = 8, a vocabulary of 32,768, all weights trained, beta 0, one iteration. Both trainers take turns in one
process and sample the same completions. Stock TRL has its default (gradient checkpointing), and its head projects only
completion tokens, as on a GPU (on a CPU it would project every token). Triptych has the checkpointing that
``train`` would choose. The comparison at first use is left out. Between the turns a product of matrices of the model's
shapes is timed: the bound is the step's least number of operations over that rate.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import subject
import torch
import trl.trainer.utils as trl_utils
from subject import Size, config, prepare_prompt, stock_trainer, triptych_trainer, write_prompts
from table import timed_cycle
from transformers.utils import logging as transformers_logging
from triptych_data import ImageLoader

WHOLE = Size(hidden=384, layers=6, vision_hidden=192, vision_layers=6, heads=6, kv_heads=2, vocabulary=32768)
GROUP = 8
TARGETS = {(4, 32): 10.0, (4, 256): 5.0, (4, 1024): 2.5}
"""The least ratio that is wanted."""


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line for each prompt and length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[4, 16], help="images of 256 tokens in the prompt")
    parser.add_argument("--lengths", type=int, nargs="+", default=[32, 256, 1024], help="tokens of a completion")
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no line after so many minutes")
    others = ("trl", "trl-saving", "passes", "checkpointing")
    parser.add_argument(
        "--against", choices=others, default="trl", help="TRL, TRL without checkpointing, or Triptych as it was"
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    print(f"Whole step, G = {GROUP}, vocabulary {WHOLE.vocabulary}, {options.threads} thread(s)\n")
    names = ("images", "P", "C", f"{options.against} s", "Triptych s", "ratio (pairs)", "target")
    print(f"| {' | '.join(names)} | GFLOP | GFLOP/s | bound s | of the bound |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    began = time.monotonic()
    for images in options.images:
        for length in options.lengths:
            if time.monotonic() - began > 60 * options.minutes:
                print(f"{images} images, C = {length}: left out, {options.minutes:g} minutes are over", flush=True)
                continue
            with tempfile.TemporaryDirectory() as folder:
                print(line(Path(folder), options, images=images, length=length), flush=True)


def line(folder: Path, options: argparse.Namespace, *, images: int, length: int) -> str:
    """The measured row of one prompt and one completion length."""
    data = write_prompts(folder, num_images=images, side_pixels=448, num_prompts=2)
    prompt_tokens = len(prepare_prompt(data).ids)
    found, rates = [], [gemm_rate()]
    for _ in range(options.pairs):
        with sampled_ids() as of_stock:
            stock = other_seconds(data, folder, other=options.against, length=length)
        rates.append(gemm_rate())
        with sampled_ids() as of_ours:
            ours = our_seconds(data, folder, length=length)
        rates.append(gemm_rate())
        assert of_ours[-1] == of_stock[-1], "the two trainers sampled other completions"
        found.append((stock, ours))
    stock, ours = (statistics.median(column) for column in zip(*found, strict=True))
    ratios = sorted(pair[0] / pair[1] for pair in found)
    spread = f"**{statistics.median(ratios):.2f}**" + (
        f" ({ratios[0]:.2f} to {ratios[-1]:.2f})" if options.pairs > 1 else ""
    )
    flops, rate = least_flops(prompt_tokens, images=images, length=length), statistics.median(rates)
    target = TARGETS.get((images, length)) if options.against == "trl" else None
    cells = [str(images), str(prompt_tokens), str(length), f"{stock:.1f}", f"{ours:.1f}", spread]
    cells += [f">= {target:g}" if target else "", f"{flops / 1e9:.0f}", f"{rate / 1e9:.0f}"]
    cells += [f"{flops / rate:.1f}", f"**{ours * rate / flops:.2f}**"]
    return f"| {' | '.join(cells)} |"


def other_seconds(data: Path, folder: Path, *, other: str, length: int) -> float:
    """CPU seconds of a step of what Triptych is compared with."""
    if other in ("trl", "trl-saving"):
        return stock_seconds(data, folder, length=length, checkpointing=other == "trl")
    if other == "passes":
        return our_seconds(data, folder, length=length, group_sharing="passes")
    return our_seconds(data, folder, length=length, checkpointing=True)


def stock_seconds(data: Path, folder: Path, *, length: int, checkpointing: bool = True) -> float:
    """CPU seconds of a step of stock TRL; its default is checkpointing."""
    args = config(folder, group=GROUP, completion_tokens=length, gradient_checkpointing=checkpointing)
    with head_on_labels():
        return timed_cycle(stock_trainer(data, args, size=WHOLE), calls={}, name="trl", warm_up=0)


def our_seconds(
    data: Path, folder: Path, *, length: int, group_sharing: str = "auto", checkpointing: bool = False
) -> float:
    """CPU seconds of a step of Triptych, without what only its first step does."""
    args = config(folder, group=GROUP, completion_tokens=length, gradient_checkpointing=checkpointing)
    with ImageLoader(threads=1) as loader:
        trainer = triptych_trainer(data, args, size=WHOLE, loader=loader, group_sharing=group_sharing)
        trainer._to_verify = trainer.engine.verify = trainer.engine.prompts.verify = False
        return timed_cycle(trainer, calls={}, name="triptych", warm_up=0)


@contextmanager
def head_on_labels() -> Iterator[None]:
    """Let TRL's head project only labelled positions, as it does where it has a GPU's kernels."""
    stock = trl_utils._use_triton
    trl_utils._use_triton = lambda _: True
    try:
        yield
    finally:
        trl_utils._use_triton = stock


@contextmanager
def sampled_ids() -> Iterator[list[list[list[int]]]]:
    """The completions of every generation, as the reward of the trainers that are built meanwhile gets them."""
    found: list[list[list[int]]] = []
    stock = subject.reward

    def reward(completion_ids: Sequence[Sequence[int]], **given: object) -> list[float]:
        found.append([list(ids) for ids in completion_ids])
        return stock(completion_ids, **given)

    subject.reward = reward
    try:
        yield found
    finally:
        subject.reward = stock


def gemm_rate() -> float:
    """Floating-point operations per CPU second of products of the model's shapes, the median of nine."""
    left, right = torch.randn(1024, WHOLE.hidden), torch.randn(WHOLE.hidden, int(2.75 * WHOLE.hidden))
    rates = []
    for _ in range(9):
        began = time.process_time()
        for _ in range(8):
            left @ right
        rates.append(8 * 2 * left.numel() * right.shape[1] / (time.process_time() - began))
    return statistics.median(rates)


def least_flops(prompt_tokens: int, *, images: int, length: int) -> float:
    """Operations that no way of computing the step can leave out: tower and prompt forwarded once for sampling and for
    the policy pass, every completion token decoded once and forwarded once, one backward pass, no recomputation."""
    size, sampled = WHOLE, GROUP * length
    width = size.hidden // size.heads
    projections = size.hidden * (2 * size.hidden + 2 * size.kv_heads * width)
    layer = projections + 3 * size.hidden * int(2.75 * size.hidden)
    prompt = size.layers * 2 * prompt_tokens * (layer + prompt_tokens * size.hidden)
    branches = size.layers * 2 * sampled * (layer + 2 * (prompt_tokens + length / 2) * size.hidden)
    head = 2 * sampled * size.hidden * (size.vocabulary or 0)
    return 3 * (tower_flops(images) + prompt + branches + head) + branches + head


def tower_flops(images: int) -> float:
    """A forward pass of the tower over images of 1,024 patches: windows of 64 in all blocks but the last."""
    size, patches = WHOLE, 1024
    block = 4 * size.vision_hidden**2 + 3 * size.vision_hidden * int(2.75 * size.vision_hidden)
    attended = 2 * size.vision_hidden * (64 * (size.vision_layers - 1) + patches)
    blocks = 2 * patches * (size.vision_layers * block + attended)
    embedding = 2 * patches * 1176 * size.vision_hidden
    joined = 4 * size.vision_hidden
    merger = 2 * patches // 4 * (joined * joined + joined * size.hidden)
    return images * (blocks + embedding + merger)


if __name__ == "__main__":
    main()
