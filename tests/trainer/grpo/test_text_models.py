"""Language models without images train through the same trainer, to stock TRL's numbers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import trl
from datasets import Dataset
from PIL import Image
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM
from triptych_data import DataError
from triptych_trainer.demo import build_tokenizer
from triptych_trainer.forward.choose import sharing_path
from triptych_trainer.grpo.trl import trainer as trainer_module
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
from triptych_trainer.rollouts.sampled import Sampled
from trl import GRPOConfig, GRPOTrainer

TIMES = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "step_time")
TEXTS = ["See the red one", "Which ?", "blue or green , which is it ?"]


@pytest.fixture(scope="module")
def text_model_dir(tmp_path_factory):
    """A two-layer Qwen2 with the demo's tokenizer, as a user would name it."""
    folder = tmp_path_factory.mktemp("text-model")
    tokenizer = build_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def trained(trainer_class, folder, tmp_path, prompts):
    seen = []

    def reward(prompts, completions, **_):
        seen.append((prompts, completions))
        return [float(len(str(completion)) % 7) for completion in completions]

    args = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
    args |= {"num_generations": 3, "per_device_train_batch_size": 6, "max_completion_length": 6, "max_steps": 3}
    args |= {"optim": "sgd", "learning_rate": 0.5, "max_grad_norm": 0.0, "num_iterations": 2, "beta": 0.05}
    trainer = trainer_class(
        model=str(folder),
        reward_funcs=reward,
        args=GRPOConfig(output_dir=str(tmp_path), **args),
        train_dataset=Dataset.from_dict({"prompt": prompts}),
    )
    trainer.train()
    return trainer, seen


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "conversational"])
def test_three_steps_equal_those_of_stock_trl(text_model_dir, tmp_path, kind):
    prompts = TEXTS if kind == "plain" else [[{"role": "user", "content": text}] for text in TEXTS]
    (stock, expected), (ours, seen) = (
        trained(trainer, text_model_dir, tmp_path, prompts) for trainer in (GRPOTrainer, MultiImageGRPOTrainer)
    )
    assert seen == expected, "rewards get the same prompts and completions, texts for texts and messages for messages"
    assert sharing_path(ours.model) == "packed"
    start = Qwen2ForCausalLM.from_pretrained(text_model_dir)
    names = dict(ours.model.named_parameters())
    for name, value in stock.model.named_parameters():
        moved = (value - start.get_parameter(name)).norm()
        assert moved > 0, name
        assert (names[name] - value).norm() < 1e-3 * moved, name
    logged, expected_log = (
        {name: value for name, value in run.state.log_history[-1].items() if name not in TIMES} for run in (ours, stock)
    )
    assert logged == pytest.approx(expected_log, rel=1e-3, abs=1e-5)
    assert "frac_reward_zero_std" in logged


def test_an_image_for_a_model_that_takes_none_is_refused_with_the_row(text_model_dir, tmp_path):
    trainer = MultiImageGRPOTrainer(
        str(text_model_dir),
        lambda completions, **_: [0.0] * len(completions),
        args=GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none"),
        train_dataset=Dataset.from_dict(
            {"prompt": [[{"role": "user", "content": "Which ?"}]], "image": [Image.new("RGB", (28, 28))]}
        ),
    )
    with pytest.raises(
        DataError, match=r"train_dataset\[0\].*the row contains 1 image, but the model takes none; train a"
    ):
        trainer.prompt_of(0)


def look(where: str) -> str:
    """Look closer.

    Args:
        where: the place.
    """
    return f"{where} is red"


def test_tools_answer_where_the_chat_template_takes_only_texts(text_model_dir, tmp_path, monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(text_model_dir)
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen2_5.jinja").read_text()
    call = '<tool_call>\n{"name": "look", "arguments": {"where": "it"}}\n</tool_call>'
    real = trainer_module.sampler

    def said(text):
        return Sampled(ids=[*tokenizer(text)["input_ids"], tokenizer.eos_token_id])

    def scripted(trainer, *given):
        return replace(
            real(trainer, *given),
            sample=lambda groups, sizes: [[said(call), said("blue")] for _ in sizes],
            go_on=lambda groups, room: [said("red") for _ in groups],
        )

    monkeypatch.setattr(trainer_module, "sampler", scripted)
    args = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
    args |= {"num_generations": 2, "per_device_train_batch_size": 2, "max_completion_length": 200, "max_steps": 1}
    trainer = MultiImageGRPOTrainer(
        model=str(text_model_dir),
        reward_funcs=lambda completions, **_: [float(len(said)) for said in completions],
        args=GRPOConfig(output_dir=str(tmp_path), **args),
        train_dataset=Dataset.from_dict({"prompt": [[{"role": "user", "content": "Which ?"}]]}),
        processing_class=tokenizer,
        tools=[look],
    )
    trainer.train()
    asked, alone = trainer._buffered_inputs.parts[0].rollouts
    assert [message["role"] for message in asked.messages] == ["assistant", "tool", "assistant"]
    assert asked.messages[1]["content"] == "it is red"
    assert trainer.state.log_history[0]["tools/call_frequency"] == 0.5
    assert [tool.__name__ for tool in trainer.tools] == ["look"]
    whole = tokenizer.decode(asked.ids, skip_special_tokens=False)
    assert "<tool_response>" in whole
    assert len(alone.messages) == 1
