"""What is read of a completion, and which tokens end it."""

import pytest
from transformers import AddedToken, GenerationConfig
from triptych_trainer.demo import build_tokenizer
from triptych_trainer.grpo.sampler import end_ids_of, one_message
from triptych_trainer.grpo.trl.passes import sampler

SAID = "<think>red!</think> <answer>red !</answer>"


def text_of(tokenizer, ids):
    ((message,)) = one_message(tokenizer)(None, ids)
    return message["content"]


def special(tokenizer, *texts):
    tokenizer.add_tokens([AddedToken(text, special=True, normalized=False) for text in texts])
    return tokenizer


@pytest.mark.parametrize(
    "changed",
    [
        lambda tokenizer: tokenizer,
        lambda tokenizer: special(tokenizer, "<think>", "</think>", "<answer>", "</answer>"),
        lambda tokenizer: special(tokenizer, "<answer>", "</answer>", "<extra>"),
    ],
    ids=["as they are", "all special", "two special"],
)
def test_the_tags_that_rewards_look_for_are_read_also_where_they_are_special(changed):
    tokenizer = changed(build_tokenizer())
    ids = tokenizer.encode(f"{SAID}<|vision_start|><|im_end|>")
    assert text_of(tokenizer, ids) == SAID
    assert text_of(tokenizer, [*ids, tokenizer.pad_token_id]) == SAID


def test_an_ordinary_text_that_pads_rows_is_read_and_ends_nothing():
    tokenizer = build_tokenizer()
    ids = tokenizer.encode(SAID)
    tokenizer.pad_token = "!"
    assert tokenizer.pad_token_id in ids
    assert text_of(tokenizer, [*ids, tokenizer.eos_token_id]) == SAID
    config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    assert end_ids_of(config) == {tokenizer.eos_token_id}


@pytest.mark.parametrize(("ends", "found"), [(None, set()), (7, {7}), ([7, 8], {7, 8})])
def test_every_end_of_the_generation_settings_counts_and_no_pad(ends, found):
    assert end_ids_of(GenerationConfig(eos_token_id=ends, pad_token_id=3)) == found


def test_a_trainer_ends_completions_at_what_its_tokenizer_and_its_model_name(make_trainer, write_rows):
    trainer = make_trainer(write_rows([1]), max_steps=1)
    tokenizer = trainer._tokenizer
    assert sampler(trainer).end_ids == {tokenizer.eos_token_id}
    trainer.eos_token_ids = [*trainer.eos_token_ids, 7]
    assert sampler(trainer).end_ids == {tokenizer.eos_token_id, 7}
