"""Decoding by groups against transformers' own loop on repeated caches: ``python decode.py [--images 4 16] [--ends]``.

Both go on from the same prefilled prompt with the same seed, in turns in one process; the tokens are compared. A line
shows the medians of CPU time of one thread for one token of all rows, and the median of the pairs' ratios.
"""

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from subject import PASS, build_model, group_batch, prepare_prompt, write_prompts
from transformers import DynamicCache, GenerationConfig
from transformers.utils import logging as transformers_logging
from triptych_trainer.forward.generate import repeated
from triptych_trainer.forward.prefill import Prefilled, prefilled
from triptych_trainer.upstream.transformers_names import cache_argument

GROUP = 8


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line for each prompt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[4, 16], help="images of 256 tokens in the prompt")
    parser.add_argument("--tokens", type=int, default=32, help="tokens that each row decodes")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--ends", action="store_true", help="rows end at random, half of them in the first quarter")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    model = build_model(replace(PASS, vocabulary=options.vocabulary)).eval()
    print(f"Decoding, G = {GROUP}, {options.tokens} tokens, vocabulary {options.vocabulary}\n")
    print("| images | P | repeated caches, ms a token | by groups | ratio (pairs) |")
    print("|---|---|---|---|---|")
    for images in options.images:
        with tempfile.TemporaryDirectory() as folder:
            prompt = prepare_prompt(write_prompts(Path(folder), num_images=images, side_pixels=448))
        batch = group_batch(prompt, group=GROUP, completion_tokens=1)
        begun = prefilled(model, batch, features=None, pad_id=0)
        kept = [(layer.keys, layer.values) for layer in begun.cache.layers]
        ends = list(range(300, 300 + options.vocabulary // (4 * options.tokens))) if options.ends else None
        config = GenerationConfig(
            do_sample=True, top_k=0, max_new_tokens=options.tokens, pad_token_id=0, eos_token_id=ends
        )
        pairs = []
        for seed in range(options.pairs):
            found = [
                seconds(model, _copy(begun, kept), config=config, seed=seed, by_groups=way) for way in (False, True)
            ]
            assert torch.equal(found[0][1], found[1][1]), "the two ways sampled other tokens"
            pairs.append((found[0][0], found[1][0]))
        columns = [statistics.median(column) / options.tokens * 1e3 for column in zip(*pairs, strict=True)]
        ratios = sorted(old / new for old, new in pairs)
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"| {images} | {len(prompt.ids)} | {columns[0]:.1f} | {columns[1]:.1f} | **{spread}** |", flush=True)


def _copy(begun: Prefilled, kept: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Prefilled:
    """The same prefilled prompt with a cache object of its own."""
    cache = DynamicCache()
    for index, (keys, values) in enumerate(kept):
        cache.update(keys, values, index)
    return replace(begun, cache=cache)


def seconds(
    model: Any, begun: Prefilled, *, config: GenerationConfig, seed: int, by_groups: bool
) -> tuple[float, torch.Tensor]:
    """CPU seconds of decoding, and the ids of all rows."""
    torch.manual_seed(seed)
    gc.collect()
    began = time.process_time()
    start = repeated(begun, group_sizes=[GROUP], by_groups=by_groups)
    ids_BT = model.generate(
        input_ids=start.ids_BT,
        attention_mask=start.mask_BT,
        **cache_argument(model, start.cache),
        generation_config=config,
        **start.extras,
    )
    return time.process_time() - began, ids_BT


if __name__ == "__main__":
    main()
