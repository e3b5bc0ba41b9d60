"""The recipes for named models: every file is read by the parser of a run, and its groups fit its processes."""

import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
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
        for kind in KINDS:
            assert f"| `{folder.name}` | `{kind}` |" in readme, "the table of forecasts"


DIFFERENCES = {"output_dir", "model_name_or_path", "max_pixels"}
OF_TILES = {"max_prompt_image_tokens", "vllm_max_model_length", "steps_per_generation"}
"""What InternVL's 256 tokens for each of up to 13 tiles of an image ask for."""


def test_the_files_of_all_models_differ_in_names_and_sizes_alone():
    """So a start of one model's file, in the tests of families and of vLLM, is one of every model's."""
    read = {file: yaml.safe_load(file.read_text(encoding="utf-8")) for file in FILES}
    for file, options in read.items():
        first = read[MODELS / "qwen2.5-vl-7b" / file.name]
        allowed = DIFFERENCES | (OF_TILES if file.parent.name == "internvl3.5-8b" else set())
        assert {name for name in first.keys() | options.keys() if first.get(name) != options.get(name)} <= allowed, file
    for model in {file.parent for file in FILES}:
        own = {name: value for name, value in read[model / "vllm.yaml"].items() if "vllm" not in name}
        one_gpu = read[model / "one-gpu.yaml"]
        assert {**own, "output_dir": ""} == {**one_gpu, "output_dir": ""}


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


@pytest.mark.slow
def test_a_row_of_the_readme_is_what_the_script_prints(tmp_path, capsys, monkeypatch):
    """One of the 24, for each takes five seconds or more."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    script = runpy.run_path(str(MODELS.parents[1] / "scripts" / "forecast_models.py"))
    config_of, processor_of = script["MODELS"]["qwen2.5-vl-3b"]
    config = config_of()
    config.dtype = "bfloat16"
    config.save_pretrained(tmp_path / "model")
    processor_of(config).save_pretrained(tmp_path / "model")
    script["forecast"]("qwen2.5-vl-3b", "one-gpu", tmp_path / "model", script["write_rows"](tmp_path))
    said = capsys.readouterr().out
    found = [re.search(kind, said)[1] for kind in (r"([\d,.]+ M) parameters", r"peak (\S+ GiB)", r"(\S+ s) a step")]
    readme = (MODELS / "README.md").read_text(encoding="utf-8")
    assert f"| `qwen2.5-vl-3b` | `one-gpu` | {' | '.join(found)} |" in readme
