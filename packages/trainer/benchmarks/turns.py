"""Rollouts with a tool that returns images, against stock TRL 1.16: ``python turns.py [--turns 3 8] [--rounds 1]``.

One step of each trainer in turn in one process: two prompt images, G = 8, 32 sampled tokens a turn. Seconds are CPU
time of one thread, the smallest of the rounds.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from meters import PeakMemory
from transformers.utils import logging as transformers_logging
from turns_subject import Case, Measured, measure, trainer_of

HEAD = (
    "turns, images | trainer | generation s | policy pass s | step s | by the clock | images preprocessed | encoded "
    "| tokens prefilled | peak MB | ratio"
)


def main(argv: Sequence[str] | None = None) -> None:
    """Print one row per case and trainer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, nargs="+", default=[3, 8])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--side_pixels", type=int, default=512, help="of every image: 256 tokens at 512")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--vision_hidden", type=int, default=192)
    parser.add_argument("--vision_layers", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--freeze_tower", action="store_true", help="train the language model alone")
    parser.add_argument(
        "--saves_activations",
        action="store_true",
        help="Triptych without checkpointing, as `train` chooses where memory allows; TRL keeps its default",
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    print(f"| {HEAD} |\n|{'---|' * len(HEAD.split('|'))}", flush=True)
    sizes = {name: value for name, value in vars(options).items() if name not in ("turns", "rounds")}
    for turns in options.turns:
        for shared in (True, False):
            compare(Case(turns=turns, shared=shared, **sizes), rounds=options.rounds)


def compare(case: Case, *, rounds: int) -> None:
    """Measure both trainers and print their rows."""
    found: dict[str, tuple[Measured, float]] = {}
    for _ in range(rounds):
        for kind in ("trl", "triptych"):
            with tempfile.TemporaryDirectory() as folder:
                trainer = trainer_of(kind, Path(folder), case)
                peak = PeakMemory()
                step = measure(trainer)
                memory = peak.bytes() / 1e6
            if kind not in found or step.seconds < found[kind][0].seconds:
                found[kind] = (step, memory)
    name = f"{case.turns}, {'the same' if case.shared else 'all different'} ({case.num_unique} of {case.num_shown})"
    for kind, (step, memory) in found.items():
        ratio = found["trl"][0].seconds / step.seconds
        cells = (
            *(name, kind, f"{step.generation_seconds:.1f}", f"{step.policy_seconds:.1f}", f"{step.seconds:.1f}"),
            *(f"{step.wall_seconds:.1f}", step.preprocessed, step.encoded, step.prefilled_tokens, f"{memory:.0f}"),
            f"{ratio:.2f}",
        )
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
