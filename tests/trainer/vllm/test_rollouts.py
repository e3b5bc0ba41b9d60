"""Rollouts through vLLM: what its engine and its server are sent, and what comes back to the loss.

vLLM needs a GPU: a recording stand-in expands prompts and answers in its place.
"""

import pytest
import torch
from triptych_data.prompt_settings import PromptSettings
from triptych_parser import ImageSpan
from triptych_trainer.grpo.vllm import Request, RolloutMismatchError, place_features

MODES = ["colocate", "server"]


def sample(trainer, *keys):
    rows = [{"row": key} for key in keys for _ in range(trainer.num_generations)]
    return trainer._generate_and_score_completions(rows)["triptych_batch"]


@pytest.mark.parametrize("mode", MODES)
def test_trains_on_mixed_rows(vllm_trainer, write_rows, mode):
    trainer = vllm_trainer(write_rows([0, 1, 2, 5]), mode=mode, max_steps=2, num_iterations=1)
    before = trainer.model.state_dict()["lm_head.weight"].clone()
    trainer.train()
    assert not torch.equal(before, trainer.model.state_dict()["lm_head.weight"])
    assert trainer.vllm_generation.syncs == 2, "weights are pushed before every generation"
    logged = trainer.state.log_history[0]
    assert logged["sampling/importance_sampling_ratio/mean"] > 0


def test_the_engine_gets_each_prompt_once_with_one_placeholder_per_image(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([0, 1, 2, 5]), mode="colocate", num_generations=4)
    batch = sample(trainer, 2, 0, 3)
    (call,) = trainer.vllm_generation.calls
    image_token = trainer.model.config.image_token_id
    assert [prompt["prompt_token_ids"].count(image_token) for prompt in call["prompts"]] == [2, 0, 5]
    assert [len(prompt.get("multi_modal_data", {}).get("image", [])) for prompt in call["prompts"]] == [2, 0, 5]
    assert "multi_modal_data" not in call["prompts"][1]
    assert [params["n"] for params in call["sampling"]] == [4, 4, 4]
    assert batch.groups[0].prompt.ids.count(image_token) > 2, "what is trained on is expanded"


@pytest.mark.parametrize("choice", ["inline", "template"])
def test_a_template_that_moves_images_is_written_alike_for_training_and_for_the_engine(
    vllm_trainer, write_rows, choice
):
    trainer = vllm_trainer(write_rows([2, 1]), mode="colocate")
    trainer.preparer.processor.chat_template = (
        "{% for message in messages %}{% for part in message['content'] if part['type'] == 'image' %}"
        "<|vision_start|><|image_pad|><|vision_end|>{% endfor %}"
        "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}{% endfor %}"
    )
    trainer.preparer.settings = PromptSettings(chat_template_images=choice)
    batch = sample(trainer, 0, 1)  # the stand-in expands what it gets, and the trainer compares
    (call,) = trainer.vllm_generation.calls
    assert len(call["prompts"]) == 2
    first = batch.groups[0].prompt.ids
    assert (first[1] == trainer.model.config.image_token_id) == (choice == "template")


def test_the_server_gets_expanded_ids_and_features_at_the_spans(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([0, 1, 2, 5]), mode="server", num_generations=4)
    sample(trainer, 2, 0, 3)
    images, request = trainer.vllm_generation.calls
    assert [len(row or []) for row in images["images"]] == [2, 0, 5], "every image is processed once per prompt"
    assert request["n"] == 4
    for example, ids, features in zip((2, 0, 3), request["prompts"], request["features"], strict=True):
        prepared = trainer.prompt_of(example)
        assert ids == prepared.ids
        expected = [{"offset": span.runs[0][0], "length": span.runs[0][1]} for span in prepared.spans]
        assert (features["mm_placeholders"]["image"] if features else []) == expected


@pytest.mark.parametrize("mode", MODES)
def test_image_tokens_are_banned(vllm_trainer, write_rows, mode):
    trainer = vllm_trainer(write_rows([1, 2]), mode=mode, generation_kwargs={"logit_bias": {7: 1.5}, "seed": 3})
    sample(trainer, 0, 1)
    call = trainer.vllm_generation.calls[-1]
    options = call["sampling"][0] if mode == "colocate" else call["generation_kwargs"]
    assert options["logit_bias"][trainer.model.config.image_token_id] == -100
    assert options["logit_bias"][trainer.model.config.vision_start_token_id] == -100
    assert (options["logit_bias"][7], options["seed"]) == (1.5, 3), "the user's own options stay"


@pytest.mark.parametrize("mode", MODES)
def test_completions_and_their_log_probabilities_reach_their_rows(vllm_trainer, write_rows, mode):
    trainer = vllm_trainer(write_rows([1, 2, 0]), mode=mode, num_generations=3, per_device_train_batch_size=9)
    batch = sample(trainer, 1, 0, 2)
    ids = [list(rollout.ids) for rollout in batch.rollouts]
    engine = trainer.vllm_generation
    seeds = [31 * p + k for p in range(3) for k in range(3)] if mode == "colocate" else range(9)
    assert ids == [engine._completion(seed) for seed in seeds]
    for rollout in batch.rollouts:
        assert rollout.sampling_logps == tuple(-0.5 - k for k in range(len(rollout.ids)))


def test_images_are_sent_as_the_tower_sees_them_in_marker_order(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([2]), mode="colocate", per_device_train_batch_size=2)
    trainer.preparer.processor.image_processor.size = {"shortest_edge": 784, "longest_edge": 28 * 28 * 2}
    sample(trainer, 0)
    sent = trainer.vllm_generation.calls[0]["prompts"][0]["multi_modal_data"]["image"]
    prepared = trainer.prompt_of(0)
    assert [(image.height, image.width) for image in sent] == list(prepared.model_sizes)
    assert prepared.model_sizes != prepared.image_sizes
    again = trainer.preparer.processor.image_processor(images=[sent[1]], return_tensors="pt")
    torch.testing.assert_close(again["pixel_values"], prepared.image_inputs[1]["pixel_values"])


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("colocate", r"rows.jsonl:1: example row-0: vLLM's prompt has \d+ tokens and differs from token \d+ on"),
        ("server", r"rows.jsonl:1: example row-0: image 2 takes 5 tokens on the vLLM server and \d here"),
    ],
)
def test_another_number_of_image_tokens_is_an_error(vllm_trainer, write_rows, mode, message):
    trainer = vllm_trainer(write_rows([2]), mode=mode, per_device_train_batch_size=2)
    first = trainer.prompt_of(0).spans[0].num_features
    trainer.vllm_generation.counts = [first, 5]
    with pytest.raises(RolloutMismatchError, match=message):
        sample(trainer, 0)


def framed_image(**place):
    """What the server says of an image whose four placeholders stand between two other tokens, as InternVL's do."""
    span = ImageSpan(start=2, length=6, image=0, runs=((3, 4),))
    one = Request(name="row", ids=[0] * 10, short_ids=[0] * 7, spans=(span,), images=[None], num_completions=1)
    found = place_features({"mm_placeholders": {"image": [{"offset": 9, **place}]}}, one)
    return found["mm_placeholders"]["image"]


def test_places_of_an_image_between_other_tokens():
    assert framed_image(length=4) == [{"offset": 3, "length": 4}]
    marked = [False, True, True, True, True, False]
    assert framed_image(length=6, is_embed=marked) == [{"offset": 2, "length": 6, "is_embed": marked}]
    with pytest.raises(
        RolloutMismatchError, match=r"4 feature rows among 6 tokens.* marks 6 .*take --vllm_mode colocate"
    ):
        framed_image(length=6)


def test_sleep_mode_wakes_and_sleeps_around_generation(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([1]), mode="colocate", per_device_train_batch_size=2, vllm_enable_sleep_mode=True)
    sample(trainer, 0)
    assert trainer.vllm_generation.slept == [["kv_cache"], 2]
    assert trainer.vllm_generation._llm_weights_sleeping


def test_evaluation_asks_for_its_own_number_of_completions(vllm_trainer, write_rows):
    trainer = vllm_trainer(
        write_rows([1, 2]),
        mode="colocate",
        held_out=write_rows([0, 3], name="held_out.jsonl"),
        num_generations=4,
        num_generations_eval=2,
        per_device_eval_batch_size=4,
    )
    trainer.evaluate()
    assert [params["n"] for params in trainer.vllm_generation.calls[0]["sampling"]] == [2, 2]
