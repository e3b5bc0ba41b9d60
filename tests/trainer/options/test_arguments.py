"""Which command lines are the demo, and whose defaults win."""

import re
from importlib.metadata import PackageNotFoundError

import pytest
from transformers.integrations import get_available_reporting_integrations
from triptych_trainer.errors import UsageError
from triptych_trainer.options.arguments import parse_run, run_parser
from triptych_trainer.options.words import wants_demo


@pytest.mark.parametrize(
    ("argv", "demo"),
    [
        ([], True),
        (["--max_steps", "2"], True),
        (["--data", "x.jsonl"], False),
        (["--model_name_or_path=m"], False),
        (["--model-name-or-path", "m"], False),
        (["--model", "m"], False),
        (["--model=m"], False),
    ],
)
def test_a_model_or_data_makes_it_no_demo(argv, demo):
    assert wants_demo(argv) is demo


def test_a_config_file_can_name_the_data(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("data: [x.jsonl]\n")
    assert not wants_demo(["--config", str(path)])


def test_command_line_wins_over_config_which_wins_over_defaults(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("learning_rate: 0.5\ntemperature: 0.7\n")
    config = parse_run(
        ["--config", str(path), "--temperature", "0.9", "--output_dir", str(tmp_path)],
        defaults={"learning_rate": 0.1, "temperature": 0.1, "max_completion_length": 17},
    )
    assert (config.grpo.learning_rate, config.grpo.temperature, config.grpo.max_completion_length) == (0.5, 0.9, 17)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("learning_rte: 1\n", r"unknown options: learning_rte; did you mean learning_rate\?"),
        ("- a\n- b\n", "must contain a mapping"),
        ("a: [\n", "is not valid YAML"),
        (b"\xff\xfe\x00", "is not valid YAML: 'utf-8' codec"),
    ],
)
def test_bad_config_files_are_named(tmp_path, content, expected):
    path = tmp_path / "c.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=expected):
        parse_run(["--config", str(path)])


def test_a_budget_upside_down_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--min_pixels 10 is more than --max_pixels 5"):
        parse_run(["--min_pixels", "10", "--max_pixels", "5", "--output_dir", str(tmp_path)])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--num_generation", "4"], "there is no option --num_generation; did you mean --num_generations?; see"),
        (["--data-format", "swfit"], "--data_format expects one of auto, "),
        (["--data-format", "swfit"], "got 'swfit'; did you mean swift?"),
        (["--gpus", "8"], "there is no option --gpus; did you mean --num_processes?; see `train --help`"),
        (
            ["--max_rows", "8"],
            "there is no option --max_rows; this command reads all rows, so name a file with fewer of them; see",
        ),
        (["--model", ""], "--model_name_or_path expects a name, got nothing"),
        (["--num_generations", "3", "--per_device_train_batch_size", "4"], "set --num_generations to 2 or 4, or make"),
        (["--num_generations", "1"], "--num_generations expects 2 or more, got 1"),
        (["--generation_batch_size", "3"], "make --generation_batch_size a multiple of 8, or leave it out"),
        (["--fsdp", "shards"], "--fsdp shards: expected full_shard or shard_grad_op"),
        (["--bf16", "true", "--fp16", "true"], "leave out --fp16 or --bf16"),
        (["--lr_scheduler_type", "reduce_lr_on_plateau"], "add --eval_strategy steps and --eval_data"),
        (["--use_peft", "--lora_r", "0"], "--lora_r expects 1 or more, got 0"),
        (["--max_steps", "x"], "--max_steps: invalid int value: 'x'; see `train --help`"),
        (["--animated", "last"], "--animated expects one of refuse, first, got 'last'"),
        (["--max_bad", "-1"], "--max_bad expects 0 or more, got -1"),
        (["--chat_template_kwargs", "yes"], "--chat_template_kwargs expects a JSON object"),
    ],
)
def test_a_wrong_option_is_one_sentence(tmp_path, words, expected):
    with pytest.raises(UsageError) as caught:
        parse_run([*words, "--output_dir", str(tmp_path)])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_short_name_and_one_word_for_a_list_are_read(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("data: rows.jsonl\nimage_root: images\n")
    config = parse_run([f"--config={path}", "--model", "m", "--output_dir", str(tmp_path)])
    assert (config.model.model_name_or_path, config.run.data, config.run.image_root) == (
        "m",
        ["rows.jsonl"],
        ["images"],
    )


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (["tensorboard"], ["tensorboard"]),
        (["tensorboard", "wandb"], ["tensorboard", "wandb"]),
        (["none"], []),
        (["all"], get_available_reporting_integrations()),
    ],
)
@pytest.mark.parametrize("is_file", [False, True], ids=["words", "file"])
def test_one_or_several_trackers_are_read(tmp_path, words, read, is_file):
    path = tmp_path / "c.yaml"
    path.write_text(f"report_to: [{', '.join(words)}]\n")
    config = parse_run([*(["--config", str(path)] if is_file else ["--report_to", *words]), "--output_dir", "out"])
    assert config.grpo.report_to == read


def test_a_single_word_for_modules_stays_a_text(tmp_path):
    words = ["--optim", "galore_adamw", "--output_dir", str(tmp_path), "--optim_target_modules"]
    assert run_parser().parse_known_args([*words, "all-linear"])[0].optim_target_modules == "all-linear"
    assert run_parser().parse_known_args([*words, "q", "v"])[0].optim_target_modules == ["q", "v"]


@pytest.mark.parametrize(
    ("file", "expected"),
    [("nowhere.json", "--deepspeed nowhere.json: no such file"), (__file__, "test_arguments.py is not valid JSON: ")],
)
def test_a_wrong_file_of_deepspeed_is_one_sentence(tmp_path, file, expected):
    pytest.importorskip("deepspeed")
    with pytest.raises(UsageError, match=re.escape(expected)):
        parse_run(["--deepspeed", file, "--output_dir", str(tmp_path)])


def test_deepspeed_that_is_not_installed_is_one_sentence(tmp_path, monkeypatch):
    def missing(name):
        raise PackageNotFoundError(f"no {name}")

    monkeypatch.setattr("transformers.integrations.deepspeed.dep_version_check", missing)
    with pytest.raises(UsageError, match=r"--deepspeed zero2.json needs DeepSpeed .*triptych-trainer\[deepspeed\]"):
        parse_run(["--deepspeed", "zero2.json", "--output_dir", str(tmp_path)])
