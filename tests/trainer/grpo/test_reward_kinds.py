"""Every kind of reward that TRL takes: plain and async functions, reward models, weights, rows left unscored."""

import asyncio
import json
import math

import pytest
import torch
from triptych_trainer.commands.train import main
from triptych_trainer.demo import build_tokenizer
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
from triptych_trainer.rewards import guarded
from triptych_trainer.rewards.read import read_rewards


def generation(trainer: MultiImageGRPOTrainer, *keys: int):
    """What a generation for these rows leaves to be trained on, and its groups with their scores."""
    told = []
    trainer.on_rollouts = lambda groups, **_: told.extend(groups)
    rows = [{"row": key} for key in keys for _ in range(trainer.num_generations)]
    return trainer._generate_and_score_completions(rows)["triptych_batch"], told


def first_id(completion_ids, **_):
    return [float(ids[0]) for ids in completion_ids]


async def length_slowly(completion_ids, **_):
    await asyncio.sleep(0.001)
    return [float(len(ids)) for ids in completion_ids]


def images_only(completions, images, **_):
    return [1.0 if seen else None for seen in images]


def test_async_and_plain_rewards_are_weighted(make_trainer, write_rows):
    trainer = make_trainer(
        write_rows([0, 1, 2]),
        rewards=[guarded(first_id), guarded(length_slowly)],
        reward_weights=[1.0, 0.5],
        scale_rewards="none",
    )
    batch, _ = generation(trainer, 0, 1, 2)
    ids = [rollout.ids for rollout in batch.rollouts]
    rewards = torch.tensor([completion[0] + 0.5 * len(completion) for completion in ids]).view(3, 2)
    expected = (rewards - rewards.mean(1, keepdim=True)).flatten()
    torch.testing.assert_close(batch.advantages, expected)
    assert trainer.reward_func_names == ["first_id", "length_slowly"]
    assert trainer._metrics["eval"]["rewards/length_slowly/mean"] == [sum(map(len, ids)) / 6]


def test_a_reward_that_scores_some_rows_only(make_trainer, write_rows):
    trainer = make_trainer(write_rows([0, 1]), rewards=[guarded(images_only)])
    batch, groups = generation(trainer, 0, 1)
    assert batch.advantages.tolist() == [0.0] * 4
    assert [group.rewards["images_only"] for group in groups] == [(None, None), (1.0, 1.0)]


@pytest.fixture(scope="module")
def reward_model_dir(tmp_path_factory):
    """A one-layer Qwen2 with a scalar head and the demo's tokenizer, as a user would name it."""
    from transformers import Qwen2Config, Qwen2ForSequenceClassification

    folder = tmp_path_factory.mktemp("reward") / "tiny-judge"
    tokenizer = build_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        Qwen2ForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_reward_model_scores_prompt_and_completion(make_trainer, write_rows, reward_model_dir):
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(reward_model_dir)
    trainer = make_trainer(write_rows([0, 2]), rewards=[model, first_id])
    _, groups = generation(trainer, 0, 1)
    assert trainer.reward_func_names[0] == "tiny-judge"
    tokenizer = build_tokenizer()
    for scored in groups:
        prompt = trainer.tables.prompt(scored.group.key)
        for rollout, score in zip(scored.group.rollouts, scored.rewards["tiny-judge"], strict=True):
            said = trainer.processing_class.decode(list(rollout.ids), skip_special_tokens=True)
            text = tokenizer.apply_chat_template([*prompt, {"role": "assistant", "content": said}], tokenize=False)
            with torch.no_grad():
                expected = model(**tokenizer(text, return_tensors="pt")).logits[0, 0].item()
            assert score == pytest.approx(expected, abs=1e-4)


def test_a_reward_model_is_named_on_the_command_line(reward_model_dir, tmp_path):
    model, function = read_rewards([f"model:{reward_model_dir}", "format"])
    assert isinstance(model, torch.nn.Module)
    assert not model.training
    assert function.__name__ == "format"
    with pytest.raises(UsageError, match=r"--reward model:.*nowhere: no such folder .*correct the path"):
        read_rewards([f"model:{tmp_path / 'nowhere'}"])


def test_two_rewards_of_one_name_are_refused_because_one_would_hide_the_other():
    with pytest.raises(UsageError, match=r'accuracy and accuracy\(mode="choice"\) are both called accuracy in logs'):
        read_rewards(["accuracy", "format", 'accuracy(mode="choice")'])


@pytest.mark.slow
def test_a_run_with_a_reward_model(reward_model_dir, model_dir, write_rows, tmp_path, capsys):
    code = main(
        [
            *("--model_name_or_path", str(model_dir), "--data", str(write_rows([1, 2])), "--max_steps", "1"),
            *("--output_dir", str(tmp_path / "out"), "--reward", f"model:{reward_model_dir}", "format"),
            *("--reward_weights", "2", "1", "--max_completion_length", "4", "--num_generations", "2"),
            *("--per_device_train_batch_size", "4", "--memory_forecast", "false"),
        ]
    )
    assert code == 0, capsys.readouterr().err
    log = json.loads((tmp_path / "out" / "trainer_state.json").read_text())["log_history"][0]
    assert log["reward"] == pytest.approx(2 * log["rewards/tiny-judge/mean"] + log["rewards/format/mean"])


def test_rewards_in_the_evaluation_loop(make_trainer, write_rows):
    trainer = make_trainer(
        write_rows([1, 2]),
        rewards=[guarded(first_id), guarded(length_slowly)],
        held_out=write_rows([0, 3], name="held_out.jsonl"),
        num_generations=4,
        num_generations_eval=2,
        per_device_eval_batch_size=4,
        log_completions=False,
    )
    metrics = trainer.evaluate()
    assert metrics["eval_completions/mean_length"] > 0
    assert metrics["eval_rewards/length_slowly/mean"] == metrics["eval_completions/mean_length"]
    assert math.isfinite(metrics["eval_loss"])
