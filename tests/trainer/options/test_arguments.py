"""Which command lines are the demo, and whose defaults win."""

import pytest
from triptych_trainer.errors import UsageError
from triptych_trainer.options.arguments import parse_run, wants_demo


@pytest.mark.parametrize(
    ("argv", "demo"),
    [
        ([], True),
        (["--max_steps", "2"], True),
        (["--data", "x.jsonl"], False),
        (["--model_name_or_path=m"], False),
        (["--model-name-or-path", "m"], False),
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
        ("learning_rte: 1\n", "unknown options: learning_rte"),
        ("- a\n- b\n", "must hold a mapping"),
        ("a: [\n", "is not valid YAML"),
    ],
)
def test_bad_config_files_are_named(tmp_path, content, expected):
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(UsageError, match=expected):
        parse_run(["--config", str(path)])


def test_a_budget_upside_down_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--min_pixels 10 is more than --max_pixels 5"):
        parse_run(["--min_pixels", "10", "--max_pixels", "5", "--output_dir", str(tmp_path)])
