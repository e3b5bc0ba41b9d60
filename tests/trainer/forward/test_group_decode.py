"""Decoding by groups samples the tokens of transformers' own loop, and forwards no row that has ended."""

import pytest
import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessor
from triptych_trainer.forward import generate, shared_generate
from triptych_trainer.forward.group_decode import why_not_by_groups
from triptych_trainer.forward.hooks import install_hooks
from triptych_trainer.upstream.transformers_names import DynamicSlidingWindowLayer


def config(lab, **options):
    ends = list(range(20, 40))
    return GenerationConfig(do_sample=True, max_new_tokens=14, pad_token_id=lab.PAD, eos_token_id=ends, **options)


class Indifferent(LogitsProcessor):
    """Nobody knows what it remembers of rows."""

    def __call__(self, input_ids, scores):
        return scores


@pytest.mark.parametrize(
    ("options", "processors", "rows_leave"),
    [
        ({}, [], True),
        ({"top_k": 30, "no_repeat_ngram_size": 2, "min_new_tokens": 2}, [], True),
        ({"suppress_tokens": [3, 25, 10**6]}, [], True),
        ({"repetition_penalty": 1.4}, [], False),
        ({}, [Indifferent()], False),
    ],
)
def test_ragged_rows_that_end_get_the_tokens_of_transformers_loop(lab, monkeypatch, options, processors, rows_leave):
    model = lab.qwen2_5_vl().eval()
    batch = lab.qwen_batch(lab.Recipe(images=(2, 0, 1), completions=((), (), ())))
    rows = []
    handle = model.register_forward_hook(lambda _, args, output: rows.append(output.logits.shape[0]))

    def sampled():
        torch.manual_seed(5)
        return shared_generate(
            model,
            batch,
            num_generations=[3, 2, 4],
            generation_config=config(lab, **options),
            logits_processor=list(processors),
        )

    got, forwarded, rows[:] = sampled(), list(rows[1:]), []  # the first call is the prefill
    monkeypatch.setattr(generate, "why_not_by_groups", lambda *_, **__: "of the comparison")
    assert sampled() == got
    handle.remove()
    lengths = [len(row) for group in got for row in group]
    assert len(set(lengths)) > 3
    alive = [sum(length > step for length in lengths) for step in range(max(lengths))]
    assert forwarded == (alive if rows_leave else [9] * max(lengths))


def test_each_reason_against_it_is_a_sentence_end(lab):
    model = lab.qwen2_5_vl().eval()
    text = install_hooks(model).language_model(model.model)
    cache = DynamicCache()
    cache.update(torch.ones(1, 2, 3, 8), torch.ones(1, 2, 3, 8), 0)
    sliding = DynamicCache()
    sliding.layers = [DynamicSlidingWindowLayer(sliding_window=4)]

    def why(cache=cache, further=(), **options):
        further = dict.fromkeys(further)
        return why_not_by_groups(model, text, cache=cache, config=config(lab, **options), further=further)

    assert why() is None
    assert why(cache=None) == "nothing was prefilled"
    assert "DynamicSlidingWindowLayer" in why(cache=sliding)
    assert why(num_beams=2) == why(further=["streamer"]) == "generate is asked for more than one token a row at a time"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert why() == "autocast is on"
    text.train().config.attention_dropout = 0.1
    assert why() == "attention drops scores at random in training mode"
    text.eval().config.attention_dropout = 0.0
    model.set_attn_implementation({"text_config": "eager"})
    assert why() == "its attention is not Triptych's"
