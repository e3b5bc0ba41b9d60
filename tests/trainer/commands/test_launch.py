"""``train --accelerate_config``: accelerate starts the processes, and no option is read and forgotten."""

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from accelerate.commands import launch as accelerate
from accelerate.commands.config.config_args import ClusterConfig
from triptych_trainer.cli import main as triptych
from triptych_trainer.commands.launch import LAUNCHED, launch_asked, plan_of_launch
from triptych_trainer.commands.train import main

CPUS = {"distributed_type": "MULTI_CPU", "use_cpu": True, "num_processes": 2, "mixed_precision": "no"}
NODES = {"distributed_type": "MULTI_GPU", "num_machines": 2, "num_processes": 16}
"""The GPUs of several machines are not counted on this one."""
STANDS_IN = """
import json
import os
import sys
import time
from pathlib import Path

here, rank = Path(os.environ["HERE"]), os.environ["RANK"]
(here / f"{rank}.part").write_text(json.dumps({"words": sys.argv[1:], "environment": dict(os.environ)}))
(here / f"{rank}.part").rename(here / f"{rank}.json")
while not (here / f"{rank}.end").exists():
    time.sleep(0.02)
sys.exit(int((here / f"{rank}.end").read_text()))
"""
"""A module that says what it was started with, and ends with the exit code that it is told."""


@pytest.fixture
def on_cpus(tmp_path):
    """A file that accelerate writes."""
    ClusterConfig(compute_environment="LOCAL_MACHINE", debug=False, **CPUS).to_yaml_file(str(tmp_path / "cpus.yaml"))
    return str(tmp_path / "cpus.yaml")


@pytest.fixture
def on_nodes(tmp_path):
    (tmp_path / "nodes.yaml").write_text(yaml.safe_dump(NODES))
    return str(tmp_path / "nodes.yaml")


def given_to(file, *, timeout_seconds=60):
    """Return the words and the environment that a process was started with, as soon as it has written them."""
    until = time.monotonic() + timeout_seconds
    while not file.exists():
        assert time.monotonic() < until, f"no process has written {file}"
        time.sleep(0.02)
    return json.loads(file.read_text())


@pytest.fixture
def started(monkeypatch):
    """What accelerate would be told to start."""
    found = []
    monkeypatch.setattr(accelerate, "launch_command", found.append)
    return found


def test_accelerate_gets_the_file_the_number_and_every_word(on_nodes, started):
    words = ["--model", "m", "--data", "d", f"--accelerate-config={on_nodes}", "--num_processes", "3"]
    assert main(words) == 0
    ((told,),) = ([one] for one in started)
    assert (told.config_file, told.num_processes, told.module) == (on_nodes, 3, True)
    assert (told.training_script, told.training_script_args) == ("triptych_trainer", words)


def test_sft_starts_its_own_module_in_every_process(on_nodes, started):
    words = ["--model", "owner/m", "--data", "d/d", "--accelerate_config", on_nodes]
    assert triptych(["sft", *words]) == 0
    assert (started[0].training_script, started[0].training_script_args) == ("triptych_trainer.commands.sft", words)


def test_a_config_of_the_run_may_ask_for_processes(on_nodes, started, tmp_path):
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"model_name_or_path": "m", "accelerate_config": on_nodes}))
    assert main(["--config", str(tmp_path / "run.yaml"), "--data", "d"]) == 0
    assert started[0].config_file == on_nodes


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--accelerate_config", "zero4"],
            "--accelerate_config zero4: expected a file of accelerate's, or one of fsdp1",
        ),
        (["--accelerate_config"], "--accelerate_config expects a value, got none"),
        (["--num_processes", "0"], "--num_processes expects 1 or more, got 0"),
        (["--accelerate_config", "fsdp2", "--num_processes", "500"], "expected a GPU for each of the 500 processes"),
    ],
)
def test_bad_options_are_one_line(words, expected, capsys, started):
    assert main(["--model", "m", "--data", "d", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert expected in error
    assert not started


def test_the_demo_and_processes_of_another_launcher_are_refused(on_cpus, capsys, monkeypatch, started):
    assert main(["--accelerate_config", on_cpus]) == 2
    assert "the built-in demo runs in one process" in capsys.readouterr().err
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert main(["--model", "m", "--data", "d", "--accelerate_config", on_cpus]) == 2
    assert "another launcher has started this process already" in capsys.readouterr().err
    monkeypatch.setenv(LAUNCHED, "1")
    assert launch_asked(["--accelerate_config", on_cpus]) is None
    assert not started


@pytest.mark.parametrize(
    ("name", "expected"),
    [("zero2", "gradients"), ("zero3", "full"), ("fsdp2", "full"), ("multi_gpu", "none")],
)
def test_a_plan_knows_what_the_processes_split(name, expected):
    assert (plan_of_launch(name, None).num_processes, plan_of_launch(name, 4).num_processes) == (8, 4)
    assert plan_of_launch(name, 4).sharding == expected


@pytest.mark.slow
def test_two_processes_train(fork, on_cpus, model_dir, write_rows, tmp_path, monkeypatch):
    """The module that torch starts stands in for `train`, which the fork server runs with the same words and
    environment: the server has the imports already, and they take 8 CPU seconds of each process.
    """
    (tmp_path / "stands_in.py").write_text(STANDS_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("HERE", str(tmp_path))
    monkeypatch.setattr("triptych_trainer.commands.launch.MODULE", "stands_in")

    def train_in_their_place():
        asked = [given_to(tmp_path / f"{rank}.json") for rank in range(2)]
        ranks = [fork(*given["words"], environment=given["environment"]) for given in asked]
        for rank, process in enumerate(ranks):
            (tmp_path / f"{rank}.end").write_text(str(process.wait().returncode))
        return ranks

    words = ["--model", str(model_dir), "--data", str(write_rows([1, 2, 1, 2])), "--accelerate_config", on_cpus]
    small = ["--max_steps", "1", "--num_generations", "2", "--per_device_train_batch_size", "2", "--output_dir"]
    more = ["--max_completion_length", "2", "--memory_forecast", "false", "--save_strategy", "no", "--reward", "format"]
    with ThreadPoolExecutor(1) as threads:
        trained = threads.submit(train_in_their_place)
        code = main([*words, *small, str(tmp_path / "out"), *more, "--verify_model", "off"])
        assert code == 0, [rank.stderr[-3000:] for rank in trained.result()]
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert len(list((tmp_path / "out" / "rollouts").glob("*-rank00?-*.parquet"))) == 2


@pytest.mark.slow
def test_what_a_process_refuses_is_one_line_and_exit_code_2(on_cpus, tmp_path, monkeypatch, capfd):
    """The module that refuses imports nothing, for `train` takes ten seconds of each process to import."""
    (tmp_path / "refuses.py").write_text(
        "import sys\nprint('train: error:', *sys.argv[1:], file=sys.stderr)\nsys.exit(2)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("triptych_trainer.commands.launch.MODULE", "refuses")
    words = ["--model", "m", "--data", "d", "--accelerate_config", on_cpus, "--learning_rate", "-1"]
    assert main(words) == 2
    said = capfd.readouterr().err
    assert f"train: error: {' '.join(words)}\n" in said
    assert "Traceback" not in said


LAUNCHES = """
import sys
from triptych_trainer import cli
from triptych_trainer.commands import launch

launch.MODULE, sys.argv = "prints", ["train", *sys.argv[1:]]
code = cli.train()
print(sorted({"transformers", "trl", "peft", "datasets"} & set(sys.modules)), code)
"""


@pytest.mark.slow
def test_the_process_that_starts_the_others_imports_no_model_and_says_what_it_starts(on_cpus, tmp_path, monkeypatch):
    """It would wait as long for its imports as each of them, and print nothing in the meantime."""
    (tmp_path / "prints.py").write_text("import os\nprint('rank', os.environ['RANK'])")
    (tmp_path / "rows.jsonl").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    words = ["--model", "owner/m", "--data", str(tmp_path / "rows.jsonl"), "--accelerate_config", on_cpus]
    done = subprocess.run([sys.executable, "-c", LAUNCHES, *words], check=True, capture_output=True, text=True)
    said = done.stdout.splitlines()
    assert said[0] == f"--accelerate_config {on_cpus}: starting 2 processes"
    assert sorted(said[1:3]) == ["rank 0", "rank 1"]
    assert said[3:] == ["[] 0"]


DRIFTS = """
import os

from PIL import Image


class Drift:
    shown = 0

    def reset(self, **row):
        Drift.shown += os.environ["RANK"] == "1"
        return [Image.new("RGB", (28, 28), (Drift.shown, 9, 9))]
"""


@pytest.mark.slow
def test_rollouts_that_begin_differently_on_one_rank_end_both_ranks(fork, model_dir, write_rows, tmp_path):
    (tmp_path / "drifts.py").write_text(DRIFTS)
    words = ["--model", str(model_dir), "--data", str(write_rows([0, 0])), "--output_dir", str(tmp_path / "out")]
    words += ["--environment", f"{tmp_path / 'drifts.py'}:Drift", "--reward", "format", "--use_cpu", "true"]
    words += ["--max_steps", "1", "--num_generations", "2", "--per_device_train_batch_size", "2"]
    words += ["--max_completion_length", "2", "--memory_forecast", "false", "--verify_model", "off"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": "2"}
    started = [fork(*words, environment={**place, "RANK": rank, "LOCAL_RANK": rank}) for rank in "01"]
    ended = [rank.wait() for rank in started]
    said = [line for line in ended[1].stderr.splitlines() if line.startswith("train: error:")]
    assert len(said) == 1
    assert "`reset` of Drift showed rollout 1 and rollout 2 different things" in said[0]
    assert [rank.returncode for rank in ended] == [2, 2], [rank.stderr[-2000:] for rank in ended]
    (other,) = [line for line in ended[0].stderr.splitlines() if line.startswith("train: error:")]
    assert "process 0 of this run ends too, because another process has ended; look for the error" in other
    assert "Traceback" not in ended[0].stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_options(shell, capsys):
    from triptych_trainer.cli import main as triptych

    assert triptych(["completion", shell]) == 0
    script = capsys.readouterr().out
    if shell != "bash":
        assert "keep_mixed" in script
        return
    ask = script + '\nCOMP_WORDS=(triptych "$1" "$2"); COMP_CWORD=$3; _triptych; echo "${COMPREPLY[@]}"'

    def completed(*words):
        return subprocess.run(["bash", "-c", ask, "bash", *words], capture_output=True, text=True).stdout.split()

    assert completed("ro", "", "1") == ["rollout"]
    assert completed("rollout", "--keep", "2") == ["--keep_mixed"]
    assert "--learning_rate" in completed("train", "--learning", "2")
    assert completed("rollout", "file", "2") == [], "files are left to the shell"


def test_an_unknown_shell_is_one_line(capsys):
    from triptych_trainer.cli import main as triptych

    assert triptych(["completion", "tcsh"]) == 2
    assert "expected one of bash, zsh, fish, got 'tcsh'" in capsys.readouterr().err


def test_the_command_without_words_asks_for_no_processes():
    assert launch_asked([]) is None


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            {"distributed_type": "FSDP", "use_cpu": True},
            "accelerate splits no weights on CPUs, and FSDP with use_cpu would",
        ),
        ({"distributed_type": "DEEPSPEED", "use_cpu": True}, "write distributed_type: MULTI_CPU, or use_cpu: false"),
        (
            {"distributed_type": "MULTI_CPU", "use_cpu": True, "num_machines": 2},
            "num_machines 2 with use_cpu: only the",
        ),
        (
            {"distributed_type": "MEGATRON_LM"},
            "distributed_type expects one of NO, MULTI_CPU, MULTI_GPU, FSDP, DEEPSPEED",
        ),
        ({"num_processes": "two"}, "num_processes expects 1 or more, got 'two'"),
        ({"num_machines": 0}, "num_machines expects 1 or more, got 0"),
        ({**NODES, "no_such_key": 1}, "accelerate cannot launch this configuration: The config file at"),
        ({**NODES, "mixed_precision": "fp12"}, "accelerate cannot launch this configuration: "),
        (["MULTI_GPU"], "must contain a mapping, got list"),
        ("{", "no YAML can be read"),
    ],
)
def test_a_file_that_cannot_be_launched_is_one_line(said, expected, tmp_path, capsys):
    file = tmp_path / "file.yaml"
    file.write_text(said if isinstance(said, str) else yaml.safe_dump(said))
    before = dict(os.environ)
    assert main(["--model", "m", "--data", "d/d", "--accelerate_config", str(file)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith(f"train: error: --accelerate_config {file}")
    assert expected in error
    assert len(error.splitlines()) == 1
    assert dict(os.environ) == before


def test_a_file_that_accelerate_wrote_is_launched(tmp_path, started, monkeypatch):
    """Of the form that `accelerate config` writes, with every key that it has."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    sharded = {"fsdp_version": 2, "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "fsdp_reshard_after_forward": True}
    for kind, more in (("MULTI_GPU", {}), ("FSDP", {"fsdp_config": sharded})):
        file = tmp_path / f"{kind}.yaml"
        written = ClusterConfig(
            compute_environment="LOCAL_MACHINE",
            distributed_type=kind,
            mixed_precision="bf16",
            use_cpu=False,
            debug=False,
            num_processes=2,
            **more,
        )
        written.to_yaml_file(str(file))
        assert main(["--model", "m", "--data", "d/d", "--accelerate_config", str(file), "--num_processes", "2"]) == 0
        assert started.pop().config_file == str(file)
