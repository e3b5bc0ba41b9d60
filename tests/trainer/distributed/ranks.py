"""How processes are started that find each other, and how far apart two trainings are."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from packaging.version import Version

FSDP2 = Path(__file__).parents[3] / "examples" / "accelerate" / "fsdp2.yaml"
SENDS_NO_REFERENCE = Version(transformers.__version__) < Version("5.23")
"""Whether the other ranks have no reference model where the first one alone loads the weights."""


def launcher_environment(backend: str) -> dict[str, str]:
    """What `accelerate launch` tells its processes for a backend: for FSDP2 by the example file that users take."""
    if backend != "fsdp2":
        return {}
    parser = launch_command_parser()
    given = ["--config_file", str(FSDP2), "--mixed_precision", "no", "--main_process_port", "0"]
    args = parser.parse_args([*given, "worker.py"])  # port 0: any, so that runs beside this one do no harm
    args, _, _ = _validate_launch_command(args)
    before = dict(os.environ)
    found = {name: value for name, value in prepare_multi_gpu_env(args).items() if before.get(name) != value}
    return found | ({"FSDP_CPU_RAM_EFFICIENT_LOADING": "false"} if SENDS_NO_REFERENCE else {})


def start_ranks(fork: Any, arguments: Sequence[str], *, backend: str, ranks: int, script: Path) -> list[Any]:
    """Start a script in one process, or in several that find each other."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    started = []
    for rank in range(ranks):
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        place |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
        environment = {**launcher_environment(backend), **place} if ranks > 1 else {}
        started.append(fork(*arguments, script=script, environment=environment))
    return started


def difference(start: dict[str, torch.Tensor], expected: Any, got: Any) -> float:
    """Relative difference of two updates over all parameters."""
    apart = sum(float((got["parameters"][name] - value).square().sum()) for name, value in expected.items())
    moved = sum(float((start[name] - value).square().sum()) for name, value in expected.items())
    assert moved > 0, "nothing was trained"
    return (apart / moved) ** 0.5
