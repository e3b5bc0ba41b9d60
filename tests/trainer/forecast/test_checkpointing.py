"""Gradient checkpointing is chosen by the forecast: off where saved activations fit, said and recorded."""

import json
from types import SimpleNamespace

import pytest
from triptych_trainer.cli import main
from triptych_trainer.forecast.checkpointing import BothForecasts
from triptych_trainer.options.arguments import parse_run

LINE = "gradient checkpointing: "


@pytest.fixture
def train(model_dir, write_rows, tmp_path, capsys):
    """Train two steps with some options; returns (whether it is on, what was said of it, the run's record)."""

    def run(*options):
        code = main(
            [
                *("train", "--model_name_or_path", str(model_dir), "--data", str(write_rows([1, 2, 3]))),
                *("--num_generations", "2", "--per_device_train_batch_size", "2", "--max_completion_length", "4"),
                *("--max_steps", "1", "--save_strategy", "no", "--output_dir", str(tmp_path / "out")),
                *("--rollouts", "false", *options),
            ]
        )
        assert code == 0
        said = [line for line in capsys.readouterr().out.splitlines() if line.startswith(LINE)]
        return said, json.loads((tmp_path / "out" / "run.json").read_text()).get("gradient_checkpointing")

    return run


@pytest.mark.slow
def test_it_is_off_where_saved_activations_fit(train, trained_with):
    (said,), record = train("--memory_gib", "64")
    assert said.startswith(f"{LINE}off (forecast at most ")
    assert said.endswith("; within 80% of 64.0 GiB)")
    assert trained_with == [False]
    assert not record["on"]
    assert record["memory_bytes"] == 64 * 2**30
    assert record["forecast_peak_without_bytes"] > record["forecast_peak_with_bytes"] > 0


@pytest.mark.parametrize(
    ("room", "on", "said"),
    [
        (500, True, "forecast at most 401 B without it, 200 B with it; more than 80% of 500 B without it"),
        (502, False, "forecast at most 401 B without it, 200 B with it; within 80% of 502 B"),
        (None, True, "200 B with it; the memory of this machine is not known, see --memory_gib"),
    ],
)
def test_it_is_on_where_they_do_not_fit_or_nobody_knows(room, on, said):
    saved, checkpointed = (SimpleNamespace(peak=SimpleNamespace(total_bytes=n)) for n in (401, 200))
    both = BothForecasts(saved=saved, checkpointed=checkpointed)
    assert both.needs_checkpointing(room) is on
    assert both.chosen(room) is (checkpointed if on else saved)
    assert said in both.sentence(room)


@pytest.mark.slow
def test_without_a_forecast_it_stays_on_as_in_trl(train, trained_with):
    said, record = train("--memory_forecast", "false")
    assert said == [f"{LINE}on (--memory_forecast false)"]
    assert trained_with == [True]
    assert record == {"on": True, "because": "--memory_forecast false"}


def test_a_command_line_that_says_it_is_obeyed(train, trained_with):
    said, record = train("--gradient_checkpointing", "true", "--memory_forecast", "false")
    assert (said, record, trained_with) == ([], None, [True])


@pytest.fixture
def trained_with(monkeypatch):
    """Whether the language model's layers checkpoint when a trainer has trained."""
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer

    found = []

    def train(self, *args, stock=MultiImageGRPOTrainer.train, **kwargs):
        stock(self, *args, **kwargs)
        found.append(bool(self.model.is_gradient_checkpointing))

    monkeypatch.setattr(MultiImageGRPOTrainer, "train", train)
    return found


@pytest.mark.parametrize(
    ("words", "content", "chooses", "on", "kept"),
    [
        ([], "", True, True, None),
        (["--gradient_checkpointing", "auto"], "gradient_checkpointing: false\n", True, True, None),
        ([], "gradient_checkpointing: auto\n", True, True, None),
        (["--gradient_checkpointing", "true"], "", False, True, True),
        (["--gradient_checkpointing"], "", False, True, True),
        (["--no_gradient_checkpointing"], "", False, False, False),
        ([], "gradient_checkpointing: false\n", False, False, False),
        ([], "gradient_checkpointing: true\n", False, True, True),
    ],
)
def test_the_word_auto(words, content, chooses, on, kept, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(content or "max_steps: 3\n")
    config = parse_run([*words, "--config", str(file), "--output_dir", str(tmp_path)])
    assert config.chooses_checkpointing is chooses
    assert config.grpo.gradient_checkpointing is on
    assert config.options.get("gradient_checkpointing") is kept, "a config that repeats the run says what was said"


def test_another_word_is_refused(capsys):
    assert main(["train", "--gradient_checkpointing", "maybe"]) == 2
    assert "--gradient_checkpointing: expected auto, true or false, got 'maybe'" in capsys.readouterr().err
