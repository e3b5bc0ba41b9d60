"""The three stages of the look demo's warm-up, and its evaluation by the trainer's own play."""

import random
from collections import Counter
from functools import partial

import pytest
import torch
from triptych_data import read_examples
from triptych_trainer.demo.built_in import built_in
from triptych_trainer.demo.look import STAGES, Boxes, LookWarmup, evaluate, write_dataset
from triptych_trainer.demo.look.batches import dialogue_ids, supervised_batch
from triptych_trainer.demo.look.dialogue import bare, careful, habitual, with_needless_look
from triptych_trainer.demo.look.evaluate import demo_player, measure
from triptych_trainer.demo.look.task import make_sample
from triptych_trainer.grpo.step import rollout
from triptych_trainer.rollouts.sampled import Sampled, Sampler

SHORT = LookWarmup(batch_size=5, max_text_steps=6, max_see_steps=6, habit_steps=6)
SAMPLES = [make_sample(index, seed=0, split="any") for index in range(10)]


@pytest.fixture(scope="module")
def parts():
    """The untrained model and its processor."""
    return built_in("look", seed=0).build()


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boxes")
    path = write_dataset(folder, split="any", num_samples=10)
    return list(read_examples(path, image_root=folder / "images"))


@pytest.fixture
def played(parts, examples):
    """Play dialogues through the trainer's own loop, as if the model had said them."""

    def play_them(dialogues):
        model, processor = parts
        tokenizer, turns = processor.tokenizer, Counter()

        def say(row):
            text = dialogues[row][turns[row]].text
            turns[row] += 1
            return Sampled(ids=[*tokenizer(text).input_ids, tokenizer.eos_token_id])

        def go_on(groups, room):
            return [say(row) for row in [k for k in range(len(dialogues)) if turns[k] < len(dialogues[k])]]

        sampler = Sampler(
            sample=lambda groups, sizes: [[say(row)] for row in range(len(groups))],
            read=lambda *_: [],
            end_ids=frozenset([tokenizer.eos_token_id]),
            go_on=go_on,
        )
        with demo_player(model, processor=processor, examples=examples, environment=Boxes) as play:
            dressed = [play.dressed(examples[row], key=row, is_text=False) for row in range(len(dialogues))]
            prompts = {row: play.preparer(example) for row, example in enumerate(dressed)}
            return rollout(sampler, prompts, num_generations=1, play=play)

    return play_them


def test_dialogues_have_the_tokens_and_pictures_of_rollouts(parts, played):
    dialogues = [careful(sample) for sample in SAMPLES]
    groups = played(dialogues)
    images = []
    for sample, said, group in zip(SAMPLES, dialogues, groups, strict=True):
        ids, scored = dialogue_ids(sample, said, processor=parts[1])
        (one,) = group.rollouts
        assert ids == [*group.prompt.ids, *one.ids]
        assert scored == [*[False] * len(group.prompt.ids), *one.trained]
        images += [*group.prompt.image_inputs, *(image.inputs for image in one.images)]
    inputs, labels_BT = supervised_batch(list(zip(SAMPLES, dialogues, strict=True)), processor=parts[1])
    assert torch.equal(inputs["pixel_values"], torch.cat([image["pixel_values"] for image in images]))
    assert (labels_BT != -100).sum() == sum(group.rollouts[0].num_trained for group in groups)


def test_careful_dialogues_are_right_and_count_what_is_needed(examples, played):
    groups = played([careful(sample) for sample in SAMPLES])
    verdict = measure(examples, [group.rollouts[0] for group in groups])
    assert (verdict.accuracy, verdict.format) == (1.0, 1.0)
    assert verdict.calls_by_kind == {"lids": 0, "one": 1, "two": 2}
    without_tags = measure(examples, [group.rollouts[0] for group in played([bare(careful(s)) for s in SAMPLES])])
    assert (without_tags.accuracy, without_tags.format) == (1.0, 0.0)


def test_a_third_look_ends_a_rollout_without_an_answer(examples, played):
    rng = random.Random(0)
    groups = played([with_needless_look(sample, rng) for sample in SAMPLES])
    verdict = measure(examples, [group.rollouts[0] for group in groups])
    assert verdict.accuracy_by_kind == {"lids": 1.0, "one": 1.0, "two": 0.0}
    assert {group.rollouts[0].finish for group, s in zip(groups, SAMPLES, strict=True) if s.kind == "two"} == {"turns"}


def test_habits_are_right_now_and_then():
    rng, right, looks = random.Random(0), Counter(), Counter()
    for sample in (make_sample(index, seed=0, split="habits") for index in range(1000)):
        *said, answer = habitual(sample, rng)
        right[sample.kind] += answer.text == f"<answer> {sample.answer}</answer>"
        looks[sample.kind] += len(said)
    assert right["lids"] == looks["lids"] == 200
    assert 0.2 < right["one"] / 600 < 0.4
    assert 0.2 < looks["one"] / 600 < 0.5
    assert 0.02 < right["two"] / 200 < 0.15
    assert 0.2 < looks["two"] / 200 < 0.4


def test_words_take_the_places_of_image_tokens(parts):
    model, processor = parts
    inputs, _ = supervised_batch([(SAMPLES[1], careful(SAMPLES[1]))], processor=processor, model=model)
    ids, _ = dialogue_ids(SAMPLES[1], careful(SAMPLES[1]), processor=processor)
    pad = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    places = [k for k, token in enumerate(ids) if token == pad]
    assert len(places) == 4
    embed, tokenizer = model.get_input_embeddings(), processor.tokenizer
    words = [f" {k} {lid}" for k, lid in enumerate(SAMPLES[1].lids, 1)] + [f" {SAMPLES[1].answer}"]
    for place, text in zip(places, words, strict=True):
        torch.testing.assert_close(
            inputs["inputs_embeds"][0, place], embed(torch.tensor(tokenizer(text).input_ids)).sum(0)
        )
    pictures, _ = supervised_batch([(SAMPLES[1], careful(SAMPLES[1]))], processor=processor)
    expected, _ = model.model.get_rope_index(
        pictures["input_ids"], pictures["mm_token_type_ids"], pictures["image_grid_thw"]
    )
    assert torch.equal(inputs["position_ids"], expected)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_few_steps_lower_the_loss(stage):
    model, processor = built_in("look", seed=0).build()
    steps = list(stage.run(model, processor=processor, seed=0, recipe=SHORT))
    assert [step.step for step in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[-1].loss < 0.85 * steps[0].loss


@pytest.mark.slow
def test_evaluation_repeats_and_leaves_the_random_state_alone(parts, examples):
    model, processor = parts
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    measured = partial(evaluate, model, processor=processor, examples=examples, environment=Boxes, sampled=True)
    assert measured() == measured() != measured(seed=1)
    assert torch.equal(torch.rand(3), expected)
