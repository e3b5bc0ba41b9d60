"""Every family's rollouts go on from kept keys and values with the tokens of those that prefill again."""

from dataclasses import replace

import pytest
import torch
from transformers import GenerationConfig
from triptych_trainer.forward import shared_generate
from triptych_trainer.forward.turn_cache import TurnCache, why_not_kept
from triptych_trainer.models.families import family_of

AGAIN = {
    "qwen3_5_moe": "carries a state from token to token",
    "qwen3_5": "carries a state from token to token",
    "lfm2_vl": "carries a state from token to token",
    "paligemma": "every token of its prompt sees the whole prompt",
}
"""Families of which nothing can be kept, and why; the other quick ones can be."""


def play(kits, kit, *, turns, do_sample):
    """Three turns of ragged rollouts, some of which end; all sampled tokens, and the rows that went on."""
    model = kit.model().eval()
    batch = kit.prompts.select([0, 2, 1]).batch
    batch = replace(batch, image_keys=tuple(f"image {k}" for k in range(len(batch.images))))
    one, other, text = kits.arrivals(kit.case, model, kit.processor, count=2)
    ends = list(range(20, 90))  # many, so that rollouts end at different tokens
    config = GenerationConfig(do_sample=do_sample, top_k=0, max_new_tokens=7, eos_token_id=ends, pad_token_id=0)
    torch.manual_seed(1)
    found, news = [], []
    sizes = [2, 3, 1]
    for arrived in (([one, None], [text, one, other], [other]), ([other], [None], [other], [one], [text]), None):
        sampled = shared_generate(model, batch, num_generations=sizes, generation_config=config, turns=turns)
        found.append(sampled)
        if arrived is not None:
            news.append([len(turn.ids) for group in arrived for turn in group if turn is not None])
            batch, sizes = kits.rollouts_so_far(batch, sampled, arrived), 1
    return found, news


@pytest.mark.slow_except("qwen2_5_vl-greedy", "gemma3-sampled")
@pytest.mark.parametrize("do_sample", [False, True], ids=["greedy", "sampled"])
def test_tokens_equal_those_of_rollouts_that_prefill_again(kits, kit, family_name, do_sample):
    turns = TurnCache()
    expected, _ = play(kits, kit, turns=None, do_sample=do_sample)
    got, news = play(kits, kit, turns=turns, do_sample=do_sample)
    assert got == expected
    assert len({len(ids) for groups in got for group in groups for ids in group}) > 1, "rollouts of unequal length"
    reason = why_not_kept(family_of(kit.stock), kit.stock)
    if family_name in kits.QUICK or family_name in AGAIN:
        assert (reason is None) == (family_name not in AGAIN)
        assert AGAIN.get(family_name, "") in (reason or "")
    if reason is None:
        prompts = sum(len(ids) - 1 for ids in kit.prompts.select([0, 2, 1]).batch.prompts)
        assert turns.rows_prefilled_again == 0
        assert turns.tokens_prefilled == prompts + sum(map(sum, news))
    elif family_of(kit.stock).prefills:
        assert turns.rows_prefilled_again == sum(map(len, news))
