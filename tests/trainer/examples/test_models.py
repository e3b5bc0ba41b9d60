"""The recipes for named models: every file is read by the parser of a run, and its groups fit its processes."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from triptych_trainer.commands.launch import plan_of_launch
from triptych_trainer.grpo.groups import check_groups_on_ranks
from triptych_trainer.options.arguments import parse_run
from triptych_trainer.options.refusals import check_options
from triptych_trainer.rewards.read import read_rewards

MODELS = Path(__file__).resolve().parents[3] / "examples" / "models"
FILES = sorted(MODELS.glob("*/*.yaml"))
KINDS = ("eight-gpus", "one-gpu", "vllm")


def test_every_model_has_a_file_for_each_setting_and_stands_in_the_readme():
    readme = (MODELS / "README.md").read_text(encoding="utf-8")
    for folder in (path for path in MODELS.iterdir() if path.is_dir()):
        assert tuple(sorted(path.stem for path in folder.iterdir())) == KINDS
        assert f"`{folder.name}`" in readme


@pytest.mark.parametrize("file", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_run_takes_the_file(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace())
    config = parse_run(["--config", str(file), "--bf16", "False"])
    check_options(config.grpo)
    assert read_rewards(config.run.reward)
    assert config.model.use_peft == (file.stem != "eight-gpus")
    assert config.grpo.use_vllm == (file.stem == "vllm")
    assert config.grpo.output_dir == f"out/{file.parent.name}-{file.stem}"
    launched = plan_of_launch(config.run.accelerate_config, config.run.num_processes)
    assert (launched.num_processes, launched.sharding) == ((8, "full") if file.stem == "eight-gpus" else (None, None))
    check_groups_on_ranks(
        per_device=config.grpo.per_device_train_batch_size,
        steps_per_generation=config.grpo.steps_per_generation,
        num_generations=config.grpo.num_generations,
        num_ranks=launched.num_processes or 1,
    )
    assert re.match(r"# .* It has not run on a GPU\.\n", file.read_text(encoding="utf-8"))
