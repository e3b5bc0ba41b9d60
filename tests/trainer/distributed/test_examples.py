"""The files and commands under examples/accelerate, as far as they can be checked without GPUs."""

import re
import shlex
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from triptych_trainer.grpo.groups import check_groups_on_ranks
from triptych_trainer.options.arguments import parse_run

FOLDER = Path(__file__).parents[3] / "examples" / "accelerate"
FILES = {
    "one_node.yaml": (DistributedType.MULTI_GPU, 8, {}),
    "fsdp2.yaml": (DistributedType.FSDP, 8, {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}),
    "several_nodes.yaml": (DistributedType.FSDP, 16, {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}),
    "zero2.yaml": (DistributedType.DEEPSPEED, 8, {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}),
    "zero3.yaml": (DistributedType.DEEPSPEED, 8, {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}),
    "vllm_server.yaml": (DistributedType.MULTI_GPU, 7, {}),
}
COMMANDS = [
    shlex.split(block.replace("\\\n", " "))
    for block in re.findall(r"```bash\n(.*?)```", (FOLDER / "README.md").read_text(), flags=re.DOTALL)
]
LAUNCHES = [words for words in COMMANDS if words[:2] == ["accelerate", "launch"]]


def launch_arguments(words):
    """What accelerate makes of a command line, its configuration file read in."""
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    return args


def test_every_file_is_named_in_the_readme_and_tested():
    assert sorted(path.name for path in FOLDER.glob("*.yaml")) == sorted(FILES)
    readme = (FOLDER / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in FILES)


@pytest.mark.parametrize("name", FILES)
def test_accelerate_reads_the_file(name, monkeypatch):
    monkeypatch.setattr("accelerate.utils.launch.is_port_in_use", lambda port: False)  # by a run beside the tests
    kind, num_processes, variables = FILES[name]
    config = load_config_from_file(str(FOLDER / name))
    assert config.distributed_type == kind
    args = launch_arguments(["--config_file", str(FOLDER / name), "worker.py"])
    assert args.num_processes == num_processes
    assert args.mixed_precision == "bf16"
    if kind == DistributedType.DEEPSPEED:
        pytest.importorskip("deepspeed")
        args.deepspeed_fields_from_accelerate_config = ",".join(config.deepspeed_config)  # as the launcher does
        _, environment = prepare_deepspeed_cmd_env(args)
    else:
        environment = prepare_multi_gpu_env(args)
    assert {key: environment.get(key) for key in variables} == variables


def test_the_readme_shows_one_launch_for_each_setting():
    assert [Path(words[3]).name for words in LAUNCHES] == ["fsdp2.yaml", "several_nodes.yaml", "vllm_server.yaml"]


@pytest.mark.parametrize("words", LAUNCHES, ids=lambda words: Path(words[3]).name)
def test_the_commands_of_the_readme_are_understood(words):
    assert words[2] == "--config_file"
    path = FOLDER.parents[1] / words[3]
    args = launch_arguments(["--config_file", str(path), *words[4:]])
    assert args.module
    assert args.training_script == "triptych_trainer"
    parsed = parse_run(args.training_script_args)
    assert parsed.run.data == ["rows.jsonl"]
    check_groups_on_ranks(
        per_device=parsed.grpo.per_device_train_batch_size,
        steps_per_generation=parsed.grpo.steps_per_generation,
        num_generations=parsed.grpo.num_generations,
        num_ranks=args.num_processes,
    )
