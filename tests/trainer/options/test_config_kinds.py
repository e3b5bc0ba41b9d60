"""A file of `--config` gives values of the kinds that its options have: argparse converts only words."""

import pytest
from triptych_trainer.errors import UsageError
from triptych_trainer.options.arguments import parse_run

REFUSED = {
    "use_peft: null": "--config: use_peft expects true or false, got nothing; leave it out for its default",
    "use_peft: [true]": "--config: use_peft expects true or false, got [True]",
    "num_iterations: 2.0": "--config: num_iterations expects a whole number, got 2.0",
    "num_iterations: true": "--config: num_iterations expects a whole number, got True",
    "image_threads: 2.7": "--config: image_threads expects a whole number, got 2.7",
    "beta: null": "--config: beta expects a number, got nothing; leave it out for its default",
    "beta: true": "--config: beta expects a number, got True",
    "reward: 3": "--config: reward expects a list of texts, got 3",
    "reward: [[a]]": "--config: reward expects a list of texts, got [['a']]",
    "reward_weights: 1.0": "--config: reward_weights expects a list of numbers, got 1.0",
    "reward_weights: ['2']": "--config: reward_weights expects a list of numbers, got ['2']",
    "lora_target_modules: [null]": "--config: lora_target_modules expects a list of texts, got [None]",
    "data: {train: x}": "--config: data expects a list of texts, got {'train': 'x'}",
    "run_name: 2026-11-27": "--config: run_name expects text, got datetime.date(2026, 11, 27); YAML reads it so",
    "group_sharing: off": "--config: group_sharing expects text, got False; YAML reads it so without quotes; put it in",
    "report_to: null": "--config: report_to expects text or a list of texts, got nothing; leave it out for its default",
    "num_generations:": "--config: num_generations expects a whole number, got nothing; leave it out for its default",
    "dtype: 'x y'": "--config: dtype expects one of auto, bfloat16, float16, float32, got 'x y'",
    "log_level: loud": "--config: log_level expects one of detail, debug, info,",
    "log_level_replica: loud": "--config: log_level_replica expects one of detail, debug, info,",
    "lr_scheduler_type: loud": "--config: lr_scheduler_type expects one of linear, cosine,",
    "logging_steps: .inf": "--logging_steps expects a number above 0, got inf",
    "save_steps: .inf": "--save_steps expects a number above 0, got inf",
    "eval_steps: .inf": "--eval_steps expects a number above 0, got inf",
    "warmup_steps: .inf": "--warmup_steps expects 0 or more, got inf",
    "num_train_epochs: .nan": "--num_train_epochs expects a finite number, got nan",
    "warmup_steps: -1": "--warmup_steps expects 0 or more, got -1",
    "lr_scheduler_kwargs: '[]'": "--lr_scheduler_kwargs expects a JSON object such as '{\"a\": true}', got []",
    "seed: 1\nseed: 2": "is not valid YAML: seed is there twice",
    "lr_scheduler_kwargs: '{bad}'": "--config: lr_scheduler_kwargs expects a JSON object such as '{\"a\": true}', got",
    "3: 4": "expected the names of options as keys, got 3",
    "help: true": "--config names unknown options: help",
}


def parsed(text, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return parse_run(["--config", str(path), "--output_dir", str(tmp_path / "out")])


@pytest.mark.parametrize("text", REFUSED)
def test_a_value_of_another_kind_is_refused_by_name(text, tmp_path):
    with pytest.raises(UsageError) as refused:
        parsed(text, tmp_path)
    assert REFUSED[text] in str(refused.value)


def test_values_of_their_kinds_are_taken(tmp_path):
    config = parsed(
        "model_name_or_path: m\ndata: [d.jsonl]\nbeta: 1e-1\nnum_iterations: '2'\nlearning_rate: 1\nuse_peft: yes\n"
        "lora_target_modules: q_proj\ngeneration_kwargs: {typical_p: 0.5}\nreward_weights: [1, 0.5]\nseed: 3\n"
        "chat_template_kwargs: '{\"a\": 1}'\nscale_rewards: false\nlr_scheduler_type: cosine\nmax_pixels: null\n"
        "<<: {temperature: 0.5}\n",
        tmp_path,
    )
    assert (config.grpo.beta, config.grpo.num_iterations, config.grpo.learning_rate) == (0.1, 2, 1)
    assert (config.model.use_peft, config.grpo.reward_weights, config.grpo.scale_rewards) == (True, [1, 0.5], "none")
    assert config.grpo.generation_kwargs == {"typical_p": 0.5}
    assert config.grpo.chat_template_kwargs == {"a": 1}
    assert config.grpo.temperature == 0.5


@pytest.mark.parametrize("name", ["logging_steps", "save_steps", "eval_steps", "warmup_steps", "num_train_epochs"])
def test_an_infinite_number_of_steps_is_refused(name):
    with pytest.raises(UsageError, match=f"--{name} expects .*, got inf"):
        parse_run([f"--{name}", "inf"])
