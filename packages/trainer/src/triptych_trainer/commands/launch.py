"""``train --accelerate_config``: the same command in several processes, which accelerate starts, on CPUs torch."""

import importlib.util
import itertools
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from triptych_trainer.errors import UsageError
from triptych_trainer.options.plan_options import Sharding
from triptych_trainer.options.words import config_file, wants_demo, written_out

__all__ = [
    "Launch",
    "PlannedLaunch",
    "check_launch_words",
    "launch_asked",
    "launch_processes",
    "launched",
    "plan_of_launch",
]

LAUNCHED = "TRIPTYCH_LAUNCHED"
"""Set in the processes that were started here: they find the same options and are the run."""
MODULE = "triptych_trainer"
"""What each process of ``train`` runs."""
OWN_MODULES: Mapping[str, str] = {"sft": "triptych_trainer.commands.sft"}
"""What each process of another command runs."""
CONFIG, PROCESSES = "accelerate_config", "num_processes"
DEFAULT = "multi_gpu"
TYPES = ("NO", "MULTI_CPU", "MULTI_GPU", "FSDP", "DEEPSPEED")
"""The ways of accelerate that a run was tried with."""
STAGES: Mapping[int | None, Sharding] = {1: "optimizer", 2: "gradients", 3: "full"}
"""What DeepSpeed's ZeRO splits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """Says how accelerate is to start a run."""

    file: Path
    num_processes: int | None
    """None: what the file says."""
    option: str
    """The words that ask for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedLaunch:
    """Contains what a forecast has to know of a launch, with None for what the launch does not say."""

    num_processes: int | None
    sharding: Sharding | None


def plan_of_launch(name: str | None, num_processes: int | None) -> PlannedLaunch:
    """Return how many processes a launch would start, and what they would split among them; nothing is started.

    Raises:
        UsageError: there is no such configuration.
    """
    if name is None:
        return PlannedLaunch(num_processes=num_processes, sharding=None)
    said = _said(_file(name))
    stage = (said.get("deepspeed_config") or {}).get("zero_stage")
    sharding: Sharding = "full" if said.get("distributed_type") == "FSDP" else STAGES.get(stage, "none")
    return PlannedLaunch(num_processes=num_processes or _number(said), sharding=sharding)


def launched(command: str, argv: Sequence[str]) -> int | None:
    """Run a command in the processes that its words ask for, and return their exit code, or None if they ask for none.

    Raises:
        UsageError: see ``launch_asked`` and ``launch_processes``, or the words ask for the built-in demo.
    """
    asked = launch_asked(argv)
    if asked is None:
        return None
    if command == "train" and wants_demo(argv):
        raise UsageError(f"--{CONFIG}, --{PROCESSES}: the built-in demo runs in one process; leave it out")
    if not ("--quiet" in argv or config_file(written_out(argv)).get("quiet")):
        number = asked.num_processes or _number(_said(asked.file))
        print(f"{asked.option}: starting {number} process{'es' if number > 1 else ''}", flush=True)
    return launch_processes(asked, argv, module=OWN_MODULES.get(command, MODULE))


def launch_asked(argv: Sequence[str]) -> Launch | None:
    """Return how a command line, or its ``--config``, asks for several processes, or None if it does not, or if that
    was done already.

    Raises:
        UsageError: there is no such configuration, too few GPUs, or another launcher has started this process.
    """
    asked = check_launch_words(argv)
    if asked is not None:
        _check_devices(asked)
    return asked


def check_launch_words(argv: Sequence[str]) -> Launch | None:
    """Return what ``launch_asked`` does, without a look at the GPUs, and so without importing torch."""
    words = written_out(argv)
    given: dict[str, Any] = {**config_file(words), **_given(words)}
    name, number = given.get(CONFIG), given.get(PROCESSES)
    if (name is None and number is None) or os.environ.get(LAUNCHED):
        return None
    option = f"--{CONFIG} {name}" if name is not None else f"--{PROCESSES} {number}"
    if "LOCAL_RANK" in os.environ:
        raise UsageError(f"{option}: another launcher has started this process already; leave it out")
    if number is not None and not (str(number).isdecimal() and int(number) > 0):
        raise UsageError(f"--{PROCESSES} expects 1 or more, got {number}")
    file = _file(str(name or DEFAULT))
    _said(file)
    return Launch(file=file, num_processes=None if number is None else int(number), option=option)


def launch_processes(asked: Launch, argv: Sequence[str], *, module: str) -> int:
    """Start a module with the same words in every process, and return the exit code of the first that fails, or 0.

    Raises:
        UsageError: accelerate refuses the configuration.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    said, script = _said(asked.file), ["-m", module, *argv]
    number = str(asked.num_processes or _number(said))
    told = {LAUNCHED: "1"}
    if said.get("use_cpu"):
        told |= {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_MIXED_PRECISION": _precision(said)}
    try:
        with _environment(told):
            if said.get("use_cpu"):  # there accelerate starts one process, however many it is told to start
                torchrun.main(["--standalone", "--nproc_per_node", number, *script])
            else:
                words = ["--config_file", str(asked.file), "--num_processes", number, *script]
                launch_command(launch_command_parser().parse_args(words))
    except ChildFailedError as error:  # the process itself has said what is wrong
        return int(error.get_first_failure()[1].exitcode)
    except subprocess.CalledProcessError as error:
        return error.returncode
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # of accelerate, before it starts anything
        text = " ".join(str(error).split())
        raise UsageError(f"--{CONFIG} {asked.file}: accelerate cannot launch this configuration: {text}") from error
    return 0


@contextmanager
def _environment(told: Mapping[str, str]) -> Iterator[None]:
    """Variables that the started processes get."""
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _precision(said: Mapping[str, Any]) -> str:
    word = said.get("mixed_precision")
    return str(word) if word else "no"  # an unquoted `no` is read as false


def _given(words: Sequence[str]) -> dict[str, str]:
    """The two options as a command line gives them; the last one counts."""
    found = {}
    for word, after in itertools.zip_longest(words, words[1:]):
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name in (CONFIG, PROCESSES):
            if not equals and (after is None or after.startswith("--")):
                raise UsageError(f"--{name} expects a value, got none")
            found[name] = value if equals else str(after)
    return found


def _file(name: str) -> Path:
    """A file of accelerate's, or one of those that TRL brings, by its name."""
    if Path(name).is_file():
        return Path(name)
    trl = importlib.util.find_spec("trl")  # found, but not imported
    folder = Path(next(iter((trl and trl.submodule_search_locations) or ()), "")) / "accelerate_configs"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise UsageError(f"--{CONFIG} {name}: expected a file of accelerate's, or one of {', '.join(known)}")
    return folder / f"{name}.yaml"


def _said(file: Path) -> Mapping[str, Any]:
    try:
        said: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"--{CONFIG} {file}: no YAML can be read: {' '.join(str(error).split())}") from error
    if not isinstance(said, Mapping):
        raise UsageError(f"--{CONFIG} {file} must contain a mapping, got {type(said).__name__}")
    for name in (PROCESSES, "num_machines"):
        number = said.get(name)
        if number is not None and not (isinstance(number, int) and number > 0):
            raise UsageError(f"--{CONFIG} {file}: {name} expects 1 or more, got {number!r}")
    kind = said.get("distributed_type")
    if kind is not None and kind not in TYPES:
        raise UsageError(f"--{CONFIG} {file}: distributed_type expects one of {', '.join(TYPES)}, got {kind!r}")
    if said.get("use_cpu") and kind in ("FSDP", "DEEPSPEED"):
        raise UsageError(
            f"--{CONFIG} {file}: accelerate splits no weights on CPUs, and {kind} with use_cpu would train whole "
            "weights on every process; write distributed_type: MULTI_CPU, or use_cpu: false where there are GPUs"
        )
    if said.get("use_cpu") and (said.get("num_machines") or 1) > 1:
        raise UsageError(
            f"--{CONFIG} {file}: num_machines {said['num_machines']} with use_cpu: only the processes of this machine "
            "can be started; start each machine with torchrun -m triptych_trainer"
        )
    return said


def _number(said: Mapping[str, Any]) -> int:
    return int(said.get(PROCESSES) or 1)


def _check_devices(asked: Launch) -> None:
    import torch

    said = _said(asked.file)
    if said.get("use_cpu") or int(said.get("num_machines") or 1) > 1:
        return
    wanted, here = asked.num_processes or _number(said), torch.cuda.device_count()
    if wanted > max(here, 1):
        raise UsageError(
            f"{asked.option}: expected a GPU for each of the {wanted} processes, found {here}; lower --{PROCESSES}, or "
            f"give --{CONFIG} a file with `use_cpu: true`"
        )
