"""The head in slices against whole logits: ``python head.py [--completion-tokens 256 1024]``.

The policy pass and its backward, tower left out, one prompt with 4 images, G = 8; both ways take turns in one process.
A line shows medians of CPU time of one thread, the median of the pairs' ratios, and the rise of resident memory.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from meters import PeakMemory, cpu_seconds
from subject import PASS, build_model, group_batch, prepare_prompt, write_prompts
from triptych_trainer.forward import encode_images, install_hooks, logps, shared_logps

GROUP = 8


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line for each completion length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--completion-tokens", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        prompt = prepare_prompt(write_prompts(Path(folder), num_images=4, side_pixels=448))
    model = build_model(replace(PASS, vocabulary=options.vocabulary))
    install_hooks(model)
    features = encode_images(model, prompt.image_inputs).detach()
    print(f"Policy pass without the tower, P = {len(prompt.ids)}, G = {GROUP}, vocabulary {options.vocabulary}\n")
    print("| C | whole logits s | slices s | ratio (pairs) | whole logits MB | slices MB |")
    print("|---|---|---|---|---|---|")
    for completion_tokens in options.completion_tokens:
        batch = group_batch(prompt, group=GROUP, completion_tokens=completion_tokens)

        def run(batch=batch) -> tuple[float, int]:  # type: ignore[no-untyped-def]
            peak = PeakMemory()
            seconds = cpu_seconds(lambda: shared_logps(model, batch, features=features)[0].sum().backward())
            return seconds, peak.bytes()

        found = []
        for _ in range(options.pairs):
            with whole_logits():
                whole = run()
            found.append((whole, run()))
        columns = [[statistics.median(pair[way][kind] for pair in found) for way in (0, 1)] for kind in (0, 1)]
        ratios = sorted(whole[0] / slices[0] for whole, slices in found)
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        megabytes = " | ".join(f"{value / 1e6:.0f}" for value in columns[1])
        seconds = " | ".join(f"{value:.2f}" for value in columns[0])
        print(f"| {completion_tokens} | {seconds} | **{spread}** | {megabytes} |", flush=True)


@contextmanager
def whole_logits() -> Iterator[None]:
    """Score from the logits of the model's own call."""
    stock = logps.head_logps
    logps.head_logps = lambda *_, **__: None
    try:
        yield
    finally:
        logps.head_logps = stock


if __name__ == "__main__":
    main()
