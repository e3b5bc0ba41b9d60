"""Decoding by groups against transformers' own loop on repeated caches: ``python decode.py [--images 4 16] [--ends]``.

By groups it is measured with packed copies of the weights, which each turn makes again, and with the weights
themselves. All ways go on from the same prefilled prompt with the same seed, in turns in one process; the tokens are
compared. A line shows the medians of CPU time of one thread for one token of all rows, and the median of the ratios.
"""

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from subject import PASS, build_model, group_batch, prepare_prompt, write_prompts
from transformers import DynamicCache, GenerationConfig
from transformers.utils import logging as transformers_logging
from triptych_trainer.forward.generate import repeated
from triptych_trainer.forward.packed_weights import packed_weights
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
    print("| images | P | repeated caches, ms a token | by groups | by groups, packed | ratio (pairs) | packed alone |")
    print("|---|---|---|---|---|---|---|")
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
        rounds = []
        for seed in range(options.pairs):
            found = [
                seconds(model, _copy(begun, kept), config=config, seed=seed, by_groups=by_groups, packs=packs)
                for by_groups, packs in ((False, False), (True, False), (True, True))
            ]
            assert all(torch.equal(found[0][1], ids_BT) for _, ids_BT in found), "the ways sampled other tokens"
            rounds.append([took for took, _ in found])
        columns = [statistics.median(column) / options.tokens * 1e3 for column in zip(*rounds, strict=True)]
        cells = [f"{images}", f"{len(prompt.ids)}", *(f"{column:.1f}" for column in columns)]
        cells += [
            _spread([first / last for first, _, last in rounds]),
            _spread([own / last for _, own, last in rounds]),
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def _spread(ratios: Sequence[float]) -> str:
    return f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})"


def _copy(begun: Prefilled, kept: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Prefilled:
    """The same prefilled prompt with a cache object of its own."""
    cache = DynamicCache()
    for index, (keys, values) in enumerate(kept):
        cache.update(keys, values, index)
    return replace(begun, cache=cache)


def seconds(
    model: Any, begun: Prefilled, *, config: GenerationConfig, seed: int, by_groups: bool, packs: bool
) -> tuple[float, torch.Tensor]:
    """CPU seconds of decoding, and the ids of all rows."""
    torch.manual_seed(seed)
    gc.collect()
    began = time.process_time()
    start = repeated(begun, group_sizes=[GROUP], by_groups=by_groups)
    with packed_weights(model, config=config) if packs else nullcontext():
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
