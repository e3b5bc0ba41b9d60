"""Rollouts through vLLM: what its engine and its server are sent, and what comes back to the loss.

A recording stand-in expands prompts and answers in vLLM's place; `tests/trainer/vllm_engine` asks a real engine.
"""

import gc
import math

import pytest
import torch
from sampled import sample
from triptych_data.prompt_settings import PromptSettings
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.vllm import EngineError, RolloutMismatchError
from triptych_trainer.grpo.vllm.ban import BANNED_BIAS, banned_in
from triptych_trainer.grpo.vllm.told import asking_for

MODES = ["colocate", "server"]


@pytest.mark.slow_except("server")
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


@pytest.mark.slow_except("template")
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


def test_the_server_gets_the_pixels_of_an_image_once(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([0, 1, 2, 5]), mode="server", num_generations=4)
    sample(trainer, 2, 0, 3)
    server = trainer.vllm_generation
    asked = {len(call["content_parts"]): call for call in server.calls}
    assert sorted(asked) == [0, 2, 5]
    image_token = trainer.model.config.image_token_id
    assert all(call["token_ids"].count(image_token) == number for number, call in asked.items())
    assert all(call["sampling_params"]["n"] == 4 for call in server.calls)
    assert num_with_pixels(server.calls) == 6, "rows 2 and 3 share one of their seven images"
    assert server.last_payload["images_sent"] == 6
    first = server.last_payload["payload_bytes"]
    server.calls.clear()
    sample(trainer, 3, 1)
    assert num_with_pixels(server.calls) == 0, "all were seen before"
    assert server.last_payload["images_sent"] == 0
    assert server.last_payload["payload_bytes"] < first


def test_answers_are_let_go_when_they_have_been_read(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([2, 0]), mode="server")
    sample(trainer, 0, 1)
    gc.collect()
    assert not [one for one in gc.get_objects() if type(one).__name__ == "_Answer"]


def test_a_ban_is_taken_out_only_where_the_engine_tells_of_all_its_tokens():
    bias = {**dict.fromkeys(range(20), BANNED_BIAS), 50: 1.5}
    assert banned_in(bias) == list(range(20))
    assert banned_in(bias, most=19) == []


def num_with_pixels(calls):
    return sum(part["url"] is not None for call in calls for part in call["content_parts"])


def test_an_image_that_the_server_has_dropped_is_sent_again(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([2, 0]), mode="server")
    first = sample(trainer, 0)
    server = trainer.vllm_generation
    server.kept.clear()
    server.calls.clear()
    again = sample(trainer, 0)
    refused, taken = server.calls
    assert (num_with_pixels([refused]), num_with_pixels([taken])) == (0, 2)
    assert [rollout.ids for rollout in again.rollouts] == [rollout.ids for rollout in first.rollouts]


@pytest.mark.parametrize(
    "names", [lambda k: {"token": f"token_id:{k}"}, lambda k: {"token_id": k}], ids=["0.31", "0.32"]
)
def test_log_probabilities_are_read_as_each_version_of_the_server_names_them(names):
    place = {
        **names(7),
        "logprob": -1.0,
        "top_logprobs": [{**names(7), "logprob": -1.0}, {**names(3), "logprob": -101.0}],
    }
    banned = math.log1p(math.exp(-1.0))  # token 3 has e^-1 of what the others have together
    asking = asking_for({"temperature": 1.0, "logit_bias": {3: BANNED_BIAS}}, mode="server", is_cut=False)
    choice = {"index": 0, "token_ids": [7], "logprobs": {"content": [place]}}
    (found,) = asking.read([choice], where="rows.jsonl:1")
    assert found.logps == pytest.approx([-1.0 - banned])


def test_a_server_that_keeps_no_images_gets_their_pixels_every_time(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([2, 0]), mode="server")
    server = trainer.vllm_generation
    server.cache_gb = 0
    for _ in range(2):
        sample(trainer, 0)
    assert [num_with_pixels([call]) for call in server.calls] == [2, 2]


def test_more_completions_than_a_server_samples_at_a_time(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([1, 0]), mode="server", num_generations=6, per_device_train_batch_size=6)
    batch = sample(trainer, 0)
    asked = [call["sampling_params"]["n"] for call in trainer.vllm_generation.calls]
    assert sorted(asked) == [2, 4]
    assert len(batch.rollouts) == 6


@pytest.mark.slow_except("server")
@pytest.mark.parametrize("mode", MODES)
def test_image_tokens_are_banned(vllm_trainer, write_rows, mode):
    trainer = vllm_trainer(write_rows([1, 2]), mode=mode, generation_kwargs={"seed": 3})
    sample(trainer, 0, 1)
    call = trainer.vllm_generation.calls[-1]
    options = call["sampling"][0] if mode == "colocate" else call["sampling_params"]
    bias = {int(token): value for token, value in options["logit_bias"].items()}
    assert bias[trainer.model.config.image_token_id] == -100
    assert bias[trainer.model.config.vision_start_token_id] == -100
    assert options["seed"] == 3, "the user's own options stay"


@pytest.mark.slow_except("colocate")
@pytest.mark.parametrize("mode", MODES)
def test_completions_and_their_log_probabilities_reach_their_rows(vllm_trainer, write_rows, mode):
    trainer = vllm_trainer(write_rows([1, 2, 0]), mode=mode, num_generations=3, per_device_train_batch_size=9)
    batch = sample(trainer, 1, 0, 2)
    ids = [list(rollout.ids) for rollout in batch.rollouts]
    engine = trainer.vllm_generation
    places = range(3) if mode == "colocate" else [len(trainer.prompt_of(key).ids) for key in (1, 0, 2)]
    seeds = [31 * p + k for p in places for k in range(3)]
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
        ("server", r"rows.jsonl:1: example row-0: vLLM's prompt has \d+ tokens .*a server: --mm-processor-kwargs"),
    ],
)
def test_another_number_of_image_tokens_is_an_error(vllm_trainer, write_rows, mode, message):
    trainer = vllm_trainer(write_rows([2]), mode=mode, per_device_train_batch_size=2)
    first = trainer.prompt_of(0).spans[0].num_features
    trainer.vllm_generation.counts = [first, 5]
    with pytest.raises(RolloutMismatchError, match=message):
        sample(trainer, 0)


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


@pytest.mark.slow_except("server")
@pytest.mark.parametrize("mode", MODES)
def test_a_prompt_that_vllm_cannot_take_is_named_before_it_is_sent(vllm_trainer, write_rows, mode):
    trainer = vllm_trainer(write_rows([0, 5]), mode=mode)
    engine = trainer.vllm_generation
    engine.llm.llm_engine.model_config.max_model_len = engine.max_model_len = 30
    with pytest.raises(UsageError, match=r"rows.jsonl:2: example row-1: the prompt has \d+ tokens, \d+ of them of 5"):
        sample(trainer, 0, 1)
    assert engine.calls == []


@pytest.mark.parametrize("mode", MODES)
def test_an_engine_that_dies_is_said_in_one_sentence(vllm_trainer, write_rows, mode):
    trainer = vllm_trainer(write_rows([0, 1]), mode=mode)

    def dies(*_, **__):
        raise ConnectionError("Connection reset\nand a page more")

    trainer.vllm_generation.llm.generate = trainer.vllm_generation.server_generate = dies
    expected = (
        r"vLLM (engine|server at \S+) failed while it sampled \(ConnectionError: Connection reset\); .*last checkpoint"
    )
    with pytest.raises(EngineError, match=expected):
        sample(trainer, 0, 1)


def test_pixel_limits_of_the_checkpoint_do_not_change_images_that_have_their_size(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([2, 0]), mode="colocate")
    sample(trainer, 0, 1)
    with_images, without = trainer.vllm_generation.calls[0]["prompts"]
    assert with_images["mm_processor_kwargs"] == {"do_resize": False}
    assert "mm_processor_kwargs" not in without
