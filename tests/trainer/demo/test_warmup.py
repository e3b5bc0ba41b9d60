"""Batches, the two supervised stages, and the evaluation before and after GRPO."""

import math
from dataclasses import replace

import pytest
import torch
from triptych_trainer.demo import (
    STAGES,
    GRPORecipe,
    WarmupRecipe,
    build_model,
    build_processor,
    build_tokenizer,
    evaluate,
    heldout_samples,
)
from triptych_trainer.demo.batches import NOT_SCORED, prepared_prompts, supervised_batch
from triptych_trainer.demo.behaviour import careful
from triptych_trainer.demo.evaluate import measure, roll_out
from triptych_trainer.demo.task import QUESTION_KINDS, make_sample
from triptych_trainer.demo.warmup import _worst_kind, image_stage, text_stage
from triptych_trainer.models.load import load_processor

SHORT = WarmupRecipe(batch_size=9, max_text_steps=6, image_steps=6)


@pytest.fixture(scope="module")
def processor():
    return build_processor(build_tokenizer())


def messages(sample, *, placement):
    images, parts = iter(sample.images()), []
    for k, text in enumerate(sample.prompt(placement=placement).split("<image>")):
        parts += [{"type": "image", "image": next(images)}] if k else []
        parts += [{"type": "text", "text": text}] if text else []
    return [{"role": "user", "content": parts}]


@pytest.mark.parametrize("placement", ["in_place", "first"])
def test_prompt_batches_are_what_the_processor_makes(processor, placement):
    samples = [make_sample(index, seed=0, split="any") for index in range(6)]
    expected = processor.apply_chat_template(
        [messages(sample, placement=placement) for sample in samples],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        processor_kwargs={"padding": True, "return_tensors": "pt"},
    )
    prompts = prepared_prompts(samples, processor=processor, placement=placement)
    rows = zip(expected["input_ids"], expected["attention_mask"], strict=True)
    assert [prompt.ids for prompt in prompts.values()] == [ids[mask.bool()].tolist() for ids, mask in rows]
    for name in ("pixel_values", "image_grid_thw"):
        ours = torch.cat([inputs[name] for prompt in prompts.values() for inputs in prompt.image_inputs])
        assert torch.equal(ours, expected[name]), name
    pad = processor.image_token_id
    assert all(
        set(prompt.ids[start : start + length]) == {pad}
        for prompt in prompts.values()
        for span in prompt.spans
        for start, length in span.runs
    )


def test_labels_score_the_completion_and_nothing_else(processor):
    samples = [make_sample(index, seed=0, split="any") for index in range(6)]
    completions = [careful(sample) for sample in samples]
    inputs, labels_BT = supervised_batch(samples, completions=completions, processor=processor, placement="in_place")
    for row, completion in enumerate(completions):
        scored = labels_BT[row] != NOT_SCORED
        assert torch.equal(labels_BT[row][scored], inputs["input_ids"][row][scored])
        assert processor.tokenizer.decode(labels_BT[row][scored]) == completion + "<|im_end|>"
        assert processor.tokenizer.decode(inputs["input_ids"][row, : scored.int().argmax()]).endswith("assistant\n")


def test_words_stand_where_the_pictures_will(processor):
    sample = make_sample(1, seed=0, split="golden")
    options = {"completions": [careful(sample)], "processor": processor, "placement": "in_place"}
    inputs, _ = supervised_batch([sample], words_for_pictures=True, **options)
    text = processor.tokenizer.decode(inputs["input_ids"][0])
    assert "Shelf B : <|vision_start|>yellow<|vision_end|> . Shelf A : <|vision_start|>red<|vision_end|> ." in text
    assert inputs.keys() == {"input_ids", "attention_mask"}


@pytest.mark.slow_except("text_stage")
@pytest.mark.parametrize("stage", [text_stage, image_stage])
def test_a_few_steps_lower_the_loss(processor, stage):
    model = build_model(0)
    steps = list(stage(model, processor=processor, seed=0, placement="in_place", recipe=SHORT))
    assert [step.step for step in steps] == [1, 2, 3, 4, 5, 6]
    guess = math.log(len(processor.tokenizer))  # an untrained model finds every word equally likely
    assert steps[0].loss == pytest.approx(guess, abs=0.6)
    assert steps[-1].loss < 0.6 * steps[0].loss


def test_the_text_stage_ends_once_it_is_right(processor):
    easy = replace(SHORT, text_accuracy=-1.0)
    steps = list(text_stage(build_model(0), processor=processor, seed=0, placement="in_place", recipe=easy))
    assert len(steps) == 1


def test_a_stage_reports_its_worst_kind():
    samples, shares = (
        [make_sample(index, seed=0, split="any") for index in range(6)],
        dict.fromkeys(QUESTION_KINDS, 0.5),
    )
    right_B = torch.tensor([True, True, True, True, True, False])
    assert _worst_kind(shares, samples=samples, right_B=right_B) == pytest.approx(0.5)
    assert shares == pytest.approx({"before": 0.55, "shelf": 0.55, "which": 0.5})


def test_a_batch_without_every_kind_is_refused():
    with pytest.raises(ValueError, match="expected at least 3, one sample of each kind, got 2"):
        WarmupRecipe(batch_size=2)


@pytest.mark.slow
def test_the_warm_up_is_the_same_every_time(processor):
    one, other = build_model(3), build_model(3)
    before = one.get_input_embeddings().weight.detach().clone()
    for model in (one, other):
        for stage in STAGES:
            recipe = replace(SHORT, max_text_steps=2, image_steps=2)
            list(stage.run(model, processor=processor, seed=3, placement="in_place", recipe=recipe))
    assert not torch.equal(one.get_input_embeddings().weight, before)
    for left, right in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(left, right)


def test_stages_name_their_steps():
    recipe = WarmupRecipe()
    expected = [("text", recipe.max_text_steps), ("image", recipe.image_steps)]
    assert [(stage.name, stage.num_steps(recipe)) for stage in STAGES] == expected


@pytest.mark.slow
def test_evaluation_repeats_and_leaves_the_random_state_alone(processor):
    model, samples = build_model(0).train(), heldout_samples(12, seed=0)
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first = evaluate(model, processor=processor, samples=samples, sampled=True)
    assert torch.equal(torch.rand(3), expected)
    assert model.training
    again = evaluate(model, processor=processor, samples=samples, sampled=True)
    other = evaluate(model, processor=processor, samples=samples, sampled=True, seed=1)
    assert first == again
    assert first.completions != other.completions


@pytest.mark.slow_except("True")
@pytest.mark.parametrize("sampled", [False, True])
def test_image_tokens_are_never_generated(processor, sampled):
    model, samples = build_model(0), heldout_samples(12, seed=0)
    wanted = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    size = len(processor.tokenizer)
    model.lm_head = torch.nn.Linear(128, size)  # with a bias, by which the model wants nothing else
    torch.nn.init.zeros_(model.lm_head.weight)
    model.lm_head.bias.data = 100.0 * torch.nn.functional.one_hot(torch.tensor(wanted), size).float()
    text = torch.tensor([processor.tokenizer("red").input_ids])
    assert (model.generate(input_ids=text, max_new_tokens=2, do_sample=False)[:, -2:] == wanted).all()
    groups = roll_out(model, processor=processor, samples=samples, placement="in_place", sampled=sampled)
    assert len(groups) == 12
    assert not any(wanted in group.rollouts[0].ids for group in groups)


def test_the_measurement_counts_by_kind():
    samples = heldout_samples(6, seed=0)
    completions = [careful(sample) for sample in samples]
    completions[0], completions[2] = "purple haze", samples[2].answer
    verdict = measure(samples, completions=completions)
    assert verdict.accuracy == pytest.approx(5 / 6)
    assert verdict.format == pytest.approx(4 / 6)
    assert verdict.accuracy_by_kind == {"before": 0.5, "shelf": 1.0, "which": 1.0}


def test_samples_of_the_recipe_fill_its_steps():
    recipe = GRPORecipe()
    options = recipe.options
    prompts_per_step = options.per_device_train_batch_size // options.num_generations
    assert options.per_device_train_batch_size % options.num_generations == 0
    assert recipe.num_train == options.max_steps * prompts_per_step


@pytest.mark.slow
def test_a_saved_demo_is_judged_the_same(processor, tmp_path):
    from transformers import AutoModelForImageTextToText

    model, samples = build_model(1), heldout_samples(6, seed=0)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    one = evaluate(model, processor=processor, samples=samples)
    assert evaluate(loaded, processor=load_processor(str(tmp_path)), samples=samples) == one
