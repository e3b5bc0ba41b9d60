"""Trainers whose rollouts come from a real vLLM engine or server on the CPU; collected only where vLLM is installed.

`make vllm-check` makes such an environment. What the CPU build of vLLM needs beside a GPU's is done here, and none of
it concerns the trainer: the two operators of torchvision that its wheel brings for CUDA only, linear layers that keep
their weights after loading, and float32 without compilation.
"""

import importlib.util
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from triptych_trainer.trajectories.images import RolloutImages

HAS_VLLM = importlib.util.find_spec("vllm") is not None
collect_ignore_glob = [] if HAS_VLLM else ["test_*.py"]

for name, value in {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}.items():
    os.environ.setdefault(name, value)

IN_PROCESSES = Path(__file__).parent / "in_processes"
sys.path.insert(0, str(IN_PROCESSES))  # `cpu_engine`
if HAS_VLLM:
    runpy.run_path(str(IN_PROCESSES / "sitecustomize.py"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let vLLM's own warnings be warnings."""
    here = str(Path(__file__).parent) + os.sep
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(scope="session")
def cpu_engine() -> Iterator[None]:
    """Give TRL's engine the options that a CPU needs."""
    import cpu_engine as script
    import trl.generation.vllm_generation as module

    stock = script.prepare()
    yield
    module.LLM = stock


@pytest.fixture(scope="session")
def build(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Build a trainer that samples by vLLM; keyword arguments are options of GRPO, and ``of_trainer`` of the trainer.

    Its rows hold 0, 1, 2, 3 and 4 images, then one image three times, then two images that have to be resized.
    """
    from transformers import AutoModelForImageTextToText
    from triptych_data import ImageLoader, read_examples
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
    from triptych_trainer.models.families import family_of
    from triptych_trainer.models.load import load_processor
    from triptych_trainer.prompts.example_table import ExampleTable
    from triptych_trainer.prompts.prepare import PromptPreparer
    from trl import GRPOConfig

    folder = tmp_path_factory.mktemp("rows")
    rows = draw_rows(folder)
    with ExitStack() as stack:

        def make(of_trainer: dict[str, Any] | None = None, *, model: Path | Any = model_dir, **options: Any) -> Any:
            defaults = {
                "output_dir": str(folder / "out"),
                "use_cpu": True,
                "bf16": False,
                "max_steps": 2,
                "num_generations": 2,
                "per_device_train_batch_size": 14,
                "max_completion_length": 8,
                "report_to": "none",
                "save_strategy": "no",
                "disable_tqdm": True,
                "logging_steps": 1,
                "learning_rate": 1e-4,
                "gradient_checkpointing": False,
                "use_vllm": True,
            }
            loader = stack.enter_context(ImageLoader(threads=1))
            processor = (of_trainer or {}).pop("processor", None) or load_processor(str(model))
            if isinstance(model, Path):
                model = AutoModelForImageTextToText.from_pretrained(model)
            return MultiImageGRPOTrainer(
                model,
                [varied],
                args=GRPOConfig(**{**defaults, **options}),
                train_dataset=ExampleTable(list(read_examples(rows))),
                preparer=PromptPreparer(processor, loader=loader, family=family_of(model)),
                **(of_trainer or {}),
            )

        yield make


@pytest.fixture(scope="session")
def trainer(build: Callable[..., Any], cpu_engine: None) -> Any:
    """A trainer that samples from an engine in this process: the one engine of all tests, for it starts slowly."""
    return build(vllm_mode="colocate", vllm_max_model_length=1024, vllm_gpu_memory_utilization=0.3)


@pytest.fixture
def same_engine(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Let the next colocated trainer have the engine of `trainer`, which gets its own weights back afterwards."""
    import trl.generation.vllm_generation as module

    monkeypatch.setattr(module, "LLM", lambda **_: trainer.vllm_generation.llm)
    yield trainer.vllm_generation.llm
    trainer._last_loaded_step = -1


def look(image: int, images: RolloutImages) -> list[Any]:
    """Look closer.

    Args:
        image: the number of an image.
    """
    return [{"type": "image", "image": images[image].picture.resize((84, 56))}]


@pytest.fixture(scope="session")
def looking(build: Callable[..., Any]) -> Callable[..., Any]:
    """Build a trainer whose rollouts look closer once: the engine samples, and every first message counts as a call.

    A model without training says nothing that could be read as one, and so that its turns end, many tokens end them.
    """

    def make(**options: Any) -> Any:
        trainer = build({"tools": [look]}, max_completion_length=200, **options)
        trainer._to_verify = False
        trainer.eos_token_ids = [*trainer.eos_token_ids, *range(20, 150)]
        firsts = {tuple(trainer.prompt_of(key).ids) for key in range(7)}
        called = {"type": "function", "function": {"name": "look", "arguments": {"image": 1}}}

        def read(writer: Any, before: Sequence[int], ids: Sequence[int]) -> dict[str, Any]:
            calls = {"tool_calls": [called]} if tuple(before) in firsts else {}
            return {"role": "assistant", "content": "", **calls}

        trainer.play.read = read
        return trainer

    return make


RANK_OF_THIS_PROCESS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def environment_of_one() -> dict[str, str]:
    """The environment without what TRL writes into it for the engine in this process: another process is no rank."""
    return {name: value for name, value in os.environ.items() if name not in RANK_OF_THIS_PROCESS}


@pytest.fixture
def alone() -> dict[str, str]:
    return environment_of_one()


@dataclass(frozen=True, kw_only=True)
class Server:
    """A vLLM server under way."""

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def cpu_seconds(self) -> float:
        """Of all of its processes so far."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            if int(fields[2]) == self.process.pid:
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """End it as a machine that loses its power would: with all of its processes."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="session")
def server(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that `triptych serve` started, on a free port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    started = [sys.executable, "-c", "import sys; from triptych_trainer.cli import main; sys.exit(main())", "serve"]
    path = os.pathsep.join([str(IN_PROCESSES), *filter(None, [os.environ.get("PYTHONPATH")])])
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*started, str(model_dir), "--port", str(port), *CPU_OPTIONS],
            env={**environment_of_one(), "PYTHONPATH": path},
            stdout=file,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    found = Server(url=f"http://127.0.0.1:{port}", process=process, log=log)
    try:
        wait_until_it_answers(found, seconds=900)
        yield found
    finally:
        if process.poll() is None:
            found.kill()


CPU_OPTIONS = ["--dtype", "float32", "--enforce-eager", "--max-model-len", "1024", "--max-num-seqs", "8"]


def wait_until_it_answers(server: Server, *, seconds: float) -> None:
    """Wait for a server that has begun to start."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.process.poll() is None, server.log.read_text(errors="replace")[-3000:]
        try:
            with urllib.request.urlopen(f"{server.url}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"no answer after {seconds} seconds: {server.log.read_text(errors='replace')[-3000:]}")


def varied(completions: list[list[dict[str, str]]], **_: Any) -> list[float]:
    """A reward that two completions seldom share, so that weights move."""
    return [float(sum(map(ord, said[-1]["content"])) % 7) for said in completions]


def draw_rows(folder: Path) -> Path:
    """Write the rows of `trainer` and their images."""
    for number, (width, height) in enumerate([(56, 56), (84, 56), (56, 84), (112, 56), (130, 75), (61, 90)]):
        picture = Image.effect_mandelbrot((width, height), (-2, -1.5, 1, 1.5), 20 + number)
        Image.merge("RGB", [picture, picture.rotate(180), picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)]).save(
            folder / f"{number}.png"
        )
    images = [[], [0], [1, 0], [2, 1, 0], [3, 0, 1, 2], [1, 1, 1], [4, 5]]
    rows = [
        {
            "id": f"row-{k}",
            "image": [f"{number}.png" for number in numbers],
            "conversations": [
                {"from": "human", "value": "".join(f"Part {j} <image> . " for j in range(len(numbers))) + "Which ?"},
                {"from": "gpt", "value": "red"},
            ],
        }
        for k, numbers in enumerate(images)
    ]
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return path
