"""The record of a run can repeat it."""

import hashlib
import json
from dataclasses import replace

from triptych_trainer.monitor.run_record import write_record
from triptych_trainer.options.arguments import parse_run


def test_the_written_config_gives_the_same_options(tmp_path):
    data = tmp_path / "d.jsonl"
    data.write_text("{}\n")
    argv = ["--data", str(data), "--model_name_or_path", "m", "--output_dir", str(tmp_path / "out"), "--beta", "0.25"]
    argv += ["--lr_scheduler_type", "cosine", "--reward", "format", "--reward_weights", "0.5", "--use_peft"]
    config = parse_run(argv)
    write_record(tmp_path / "out", config, data=[data])
    again = parse_run(["--config", str(tmp_path / "out" / "config.yaml")])
    assert (again.run, again.model) == (config.run, config.model)
    assert again.grpo.to_dict() == config.grpo.to_dict()
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["command"][1:] == argv
    assert record["data"][0]["sha256"] == hashlib.sha256(b"{}\n").hexdigest()


def test_tokens_are_not_written(tmp_path):
    argv = ["--hub_token", "hf_one", "--push_to_hub_token=hf_two", "--output_dir", str(tmp_path)]
    config = replace(parse_run([*argv[:2], "--push_to_hub"]), command=("train", *argv))
    write_record(tmp_path, config, data=[])
    assert json.loads((tmp_path / "run.json").read_text())["command"][1:4] == [
        "--hub_token",
        "***",
        "--push_to_hub_token=***",
    ]
    assert "hf_" not in (tmp_path / "config.yaml").read_text()
