"""Shared-prefill generation samples the tokens of transformers' generate on replicated prompts."""

import copy

import pytest
import torch
from transformers import GenerationConfig
from triptych_trainer.forward import GroupBatch, shared_generate
from triptych_trainer.forward.batch import BatchError
from triptych_trainer.upstream.transformers_names import CHECKPOINTING_DROPS_CACHES

G = 3
EOS = 7


def stock_generate(lab, model, batch, *, config):
    """Replicated, left-padded rows with pixels repeated for every row, as a stock trainer calls it."""
    longest = max(len(ids) for ids in batch.prompts)
    ids, mask, types, images = [], [], [], []
    for p, prompt in enumerate(batch.prompts):
        row_types = torch.zeros(longest, dtype=torch.int)
        pads = longest - len(prompt)
        for span in batch.spans[p]:
            for start, length in span.runs:
                row_types[pads + start : pads + start + length] = 1
        for _ in range(G):
            ids.append([lab.PAD] * pads + list(prompt))
            mask.append([0] * pads + [1] * len(prompt))
            types.append(row_types)
            images += batch.images_of(p)
    inputs = {name: torch.cat([image[name] for image in images]) for name in images[0]} if images else {}
    processors = [_Ban([lab.IMAGE, lab.START, lab.END, 93])]
    output = model.generate(
        input_ids=torch.tensor(ids),
        attention_mask=torch.tensor(mask),
        mm_token_type_ids=torch.stack(types),
        generation_config=config,
        logits_processor=processors,
        **inputs,
    )
    rows = output[:, longest:].tolist()
    rows = [row[: row.index(EOS) + 1] if EOS in row else row for row in rows]
    return [rows[p : p + G] for p in range(0, len(rows), G)]


class _Ban:
    def __init__(self, ids):
        self.ids = ids

    def __call__(self, input_ids, scores):
        scores = scores.clone()
        scores[:, self.ids] = -torch.inf
        return scores


@pytest.mark.slow_except("images0-True-qwen2_5_vl", "images1-False-qwen2_vl", "images2-True-qwen2_vl")
@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen2_vl"])
@pytest.mark.parametrize("do_sample", [False, True])
@pytest.mark.parametrize("images", [(2, 0, 1, 5), (0, 0), (4,)])
def test_samples_the_same_tokens_as_generate_on_replicated_rows(lab, name, do_sample, images):
    model = getattr(lab, name)().eval()
    batch = lab.qwen_batch(lab.Recipe(images=images, completions=((),) * len(images)))
    config = GenerationConfig(
        do_sample=do_sample, max_new_tokens=12, pad_token_id=lab.PAD, eos_token_id=EOS, temperature=1.0, top_k=0
    )
    torch.manual_seed(1)
    expected = stock_generate(lab, copy.deepcopy(model), batch, config=config)
    torch.manual_seed(1)
    got = shared_generate(model, batch, num_generations=G, generation_config=config)
    assert got == expected
    if do_sample:
        assert len({tuple(row) for group in got for row in group}) > len(images)


def test_each_prompt_may_have_its_own_number_of_completions(lab):
    model = lab.qwen2_5_vl().eval()
    batch = lab.qwen_batch(lab.Recipe(images=(2, 0, 1), completions=((), (), ())))
    config = GenerationConfig(do_sample=False, max_new_tokens=8, pad_token_id=lab.PAD, eos_token_id=EOS)
    once = shared_generate(model, batch, num_generations=1, generation_config=config)
    got = shared_generate(model, batch, num_generations=[1, 3, 2], generation_config=config)
    assert got == [group * size for group, size in zip(once, [1, 3, 2], strict=True)]


def test_never_samples_an_image_token(lab):
    model = lab.qwen2_5_vl().eval()
    with torch.no_grad():
        model.lm_head.weight[lab.IMAGE] = model.lm_head.weight.mean(0) * 0 + 5.0
    model.lm_head.weight.requires_grad_(False)
    batch = lab.qwen_batch(lab.Recipe(images=(1, 0), completions=((), ())))
    config = GenerationConfig(do_sample=True, max_new_tokens=20, pad_token_id=lab.PAD, eos_token_id=EOS)
    torch.manual_seed(0)
    free = shared_generate(model, batch, num_generations=8, generation_config=config, suppress_ids=())
    assert any(lab.IMAGE in row for group in free for row in group)
    banned = shared_generate(model, batch, num_generations=8, generation_config=config)
    assert not any(lab.IMAGE in row for group in banned for row in group)


def test_gradient_checkpointing_in_training_mode_is_exact_or_refused(lab):
    model = lab.qwen2_5_vl().eval()
    batch = lab.qwen_batch(lab.Recipe(images=(1,), completions=((),)))
    config = GenerationConfig(max_new_tokens=4, do_sample=False, pad_token_id=lab.PAD)
    expected = shared_generate(model, batch, num_generations=2, generation_config=config)
    model.train().gradient_checkpointing_enable()
    if CHECKPOINTING_DROPS_CACHES:
        with pytest.raises(RuntimeError, match="gradient checkpointing drops caches"):
            shared_generate(model, batch, num_generations=2, generation_config=config)
    else:
        assert shared_generate(model, batch, num_generations=2, generation_config=config) == expected


def test_group_of_one_and_a_prompt_of_one_token(lab):
    model = lab.qwen2_5_vl().eval()
    config = GenerationConfig(do_sample=False, max_new_tokens=5, pad_token_id=lab.PAD, eos_token_id=EOS)
    for prompts in ([[5]], [[5], [6, 8, 9]]):
        batch = lab.GroupBatch.build(prompts)
        got = shared_generate(model, batch, num_generations=1, generation_config=config)
        for prompt, (row,) in zip(prompts, got, strict=True):
            stock = model.generate(
                torch.tensor([prompt]),
                generation_config=config,
                logits_processor=[_Ban([lab.IMAGE, lab.START, lab.END, 93])],
            )[0, len(prompt) :].tolist()
            assert row == stock


def test_rows_end_where_the_models_own_generation_config_says(lab):
    model = lab.qwen2_5_vl().eval()
    batch = lab.qwen_batch(lab.Recipe(images=(1, 0), completions=((), ())))
    greedy = {"do_sample": False, "max_new_tokens": 8, "pad_token_id": lab.PAD}
    free = shared_generate(
        model, batch, num_generations=1, generation_config=GenerationConfig(**greedy, eos_token_id=94)
    )
    end = free[0][0][2]
    model.generation_config.eos_token_id = end
    (row,), _ = shared_generate(model, batch, num_generations=1, generation_config=GenerationConfig(**greedy))
    assert row == free[0][0][: free[0][0].index(end) + 1]


def test_the_own_generation_settings_of_a_model_leave_what_is_sampled_alone(lab):
    model = lab.qwen2_5_vl().eval()
    batch = lab.qwen_batch(lab.Recipe(images=(1, 0), completions=((), ())))
    config = GenerationConfig(max_new_tokens=6, do_sample=True, pad_token_id=0, eos_token_id=EOS, top_k=0)

    def sampled():
        torch.manual_seed(3)
        return shared_generate(model, batch, num_generations=G, generation_config=config)

    expected = sampled()
    own = GenerationConfig(
        do_sample=True, typical_p=0.1, no_repeat_ngram_size=1, num_beams=2, cache_implementation="static", max_length=9
    )
    model.generation_config = own
    assert sampled() == expected
    assert model.generation_config is own


def test_a_token_that_the_model_has_no_embedding_for_is_named(lab):
    model = lab.qwen2_5_vl().eval()
    config = GenerationConfig(max_new_tokens=2, do_sample=True, pad_token_id=0, eos_token_id=EOS)
    with pytest.raises(BatchError, match=r"token id 99999, and .* has \d+ embeddings; use the tokenizer that belongs"):
        shared_generate(model, GroupBatch.build([[1, 99999, 3]]), num_generations=1, generation_config=config)
