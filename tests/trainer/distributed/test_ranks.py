"""Two gloo processes train what one process trains, in every way of spreading a model over ranks."""

import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import triptych_trainer.commands
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from packaging.version import Version
from transformers import AutoModelForImageTextToText
from triptych_trainer.checkpoints.folder import defect

WORKER = Path(__file__).parent / "worker.py"
SFT_BY_ZERO = Path(__file__).with_name("sft_by_zero.py")
SFT_SCRIPT = Path(triptych_trainer.commands.__path__[0]) / "sft.py"
FSDP2 = Path(__file__).parents[3] / "examples" / "accelerate" / "fsdp2.yaml"
# Two ranks take two prompts each: in the first generation the second rank has no image, in the second the first.
IMAGES = [2, 1, 0, 0, 0, 0, 1, 5]
# A reference model and old log-probabilities, so that every kind of pass runs on every backend; a checkpoint in the
# middle of a cycle, and an optimizer with a state.
OPTIONS = {"max_steps": 4, "learning_rate": 0.005, "beta": 0.04, "num_iterations": 2, "optim_args": "momentum=0.9"}
OPTIONS |= {"save_steps": 3}
# Features of a frozen tower are reused where weights are whole, and encoded in every pass where they are not.
FROZEN = {"max_steps": 2, "learning_rate": 0.01, "beta": 0.04, "freeze_vision": True, "gradient_accumulation_steps": 2}
# Four completions of a micro-batch in slices of three; gradients are averaged once in two micro-batches.
SLICED = {"max_steps": 2, "learning_rate": 0.01, "beta": 0.04, "num_iterations": 2, "gradient_accumulation_steps": 2}
# Five held-out prompts for three ranks: groups of 6 in batches of 8 lie on two ranks (6 + 2, 4 + 4, 2 + 6), the last
# batch is filled up, some ranks have no image, and ranks finish their completions after different numbers of steps.
RAGGED = {
    "max_steps": 1,
    "learning_rate": 0.01,
    "per_device_train_batch_size": 2,
    "held_out": 5,
    "eval_strategy": "steps",
    "eval_steps": 1,
    "num_generations_eval": 6,
    "per_device_eval_batch_size": 8,
    "max_completion_length": 24,
    "end_bias": 5.0,
    "ddp_backend": "gloo",
}
# The first rank has prompts of two images and of one, whose rollouts call 2, 3, 1 and 2 times, the second has none, and
# its rollouts call 0, 1, 0 and 1 times: it has to go along for two turns.
TOOLS = {"max_steps": 1, "learning_rate": 0.01, "max_completion_length": 700, "tools": True}
NOT_COMPARED = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


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


@pytest.fixture(scope="module")
def train(fork: Any, model_dir: Path, rows: Path) -> Any:
    """Run the worker on one or two ranks and return what rank 0 wrote."""

    def run(backend: str, result: Path, *, ranks: int, options: dict[str, Any], refused: str | None = None) -> Any:
        arguments = (str(model_dir), str(rows), backend, json.dumps(options), str(result))
        started = start_ranks(fork, arguments, backend=backend, ranks=ranks, script=WORKER)
        for process in started:
            done = process.wait()
            if refused is not None:
                assert refused in done.stderr
                continue
            assert done.returncode == 0, done.stderr[-3000:]
        if refused is not None:
            return None
        return torch.load(result, weights_only=True)

    return run


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("rows")
    for k in range(6):
        Image.new("RGB", (56 + 28 * (k % 3), 56), (40 * k, 30, 200 - 30 * k)).save(folder / f"{k}.png")
    lines = [
        {
            "id": f"row-{k}",
            "image": [f"{(k + j) % 6}.png" for j in range(count)],
            "conversations": [
                {"from": "human", "value": "".join(f"Part {j + 1} <image> . " for j in range(count)) + "Which ?"},
                {"from": "gpt", "value": "red"},
            ],
        }
        for k, count in enumerate(IMAGES)
    ]
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


@pytest.fixture(scope="module")
def alone(train: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One process that takes the whole global batch, once per set of options."""
    folder = tmp_path_factory.mktemp("alone")
    kept: dict[str, Any] = {}

    def run(name: str, options: dict[str, Any], *, per_device: int) -> Any:
        if name not in kept:
            given = {**options, "per_device_train_batch_size": per_device}
            kept[name] = train("ddp", folder / f"{name}.pt", ranks=1, options=given)
        return kept[name]

    return run


def difference(start: dict[str, torch.Tensor], expected: Any, got: Any) -> float:
    """Relative difference of two updates over all parameters."""
    apart = sum(float((got["parameters"][name] - value).square().sum()) for name, value in expected.items())
    moved = sum(float((start[name] - value).square().sum()) for name, value in expected.items())
    assert moved > 0, "nothing was trained"
    return (apart / moved) ** 0.5


@pytest.mark.parametrize(
    ("backend", "kind"), [("ddp", "MULTI_CPU"), ("fsdp2", "FSDP"), ("zero2", "DEEPSPEED"), ("zero3", "DEEPSPEED")]
)
def test_two_ranks_train_what_one_process_trains_and_go_on_inside_a_cycle(
    model_dir, train, alone, tmp_path, backend, kind
):
    if backend.startswith("zero"):
        pytest.importorskip("deepspeed")
    expected = alone("all passes", OPTIONS, per_device=8)
    options = {**OPTIONS, "per_device_train_batch_size": 4, "ddp_backend": "gloo"}
    got = train(backend, tmp_path / "whole.pt", ranks=2, options=options)
    assert got["distributed_type"] == kind
    start = AutoModelForImageTextToText.from_pretrained(model_dir).state_dict()
    assert difference(start, expected["parameters"], got) < 1e-4
    assert got["losses"] == pytest.approx(expected["losses"], abs=1e-6)
    assert max(map(abs, got["losses"])) > 1e-3
    if backend == "ddp":
        return  # tests/trainer/checkpoints resumes it
    assert defect(tmp_path / f"out-{backend}" / "checkpoint-3") is None
    resumed = train(backend, tmp_path / "resumed.pt", ranks=2, options={**options, "resume_from_step": 3})
    assert resumed["losses"] == got["losses"]
    for name, value in got["parameters"].items():
        assert torch.equal(resumed["parameters"][name], value), name


@pytest.mark.parametrize("backend", ["ddp", "fsdp2", "zero3"])
def test_a_frozen_tower_with_accumulation(model_dir, train, alone, tmp_path, backend):
    if backend.startswith("zero"):
        pytest.importorskip("deepspeed")
    expected = alone("frozen", FROZEN, per_device=4)
    options = {**FROZEN, "per_device_train_batch_size": 2, "ddp_backend": "gloo"}
    got = train(backend, tmp_path / "result.pt", ranks=2, options=options)
    start = AutoModelForImageTextToText.from_pretrained(model_dir).state_dict()
    assert difference(start, expected["parameters"], got) < 1e-4
    towers = [name for name in start if ".visual." in name]
    assert towers
    assert all(torch.equal(got["parameters"][name], start[name]) for name in towers)


@pytest.mark.parametrize("backend", ["ddp", "zero2"])
def test_completions_in_slices(model_dir, train, alone, tmp_path, backend):
    if backend.startswith("zero"):
        pytest.importorskip("deepspeed")
    expected = alone("unsliced", SLICED, per_device=8)
    options = {**SLICED, "per_device_train_batch_size": 4, "ddp_backend": "gloo", "completions_per_slice": 3}
    got = train(backend, tmp_path / "result.pt", ranks=2, options=options)
    start = AutoModelForImageTextToText.from_pretrained(model_dir).state_dict()
    assert difference(start, expected["parameters"], got) < 1e-4
    assert got["losses"] == pytest.approx(expected["losses"], abs=1e-6)


@pytest.mark.parametrize("backend", ["ddp", "fsdp2", "zero3"])
def test_ranks_whose_rollouts_have_other_numbers_of_turns_train_what_one_process_trains(
    train, alone, model_dir, tmp_path, backend
):
    if backend.startswith("zero"):
        pytest.importorskip("deepspeed")
    expected = alone("tools", TOOLS, per_device=8)
    options = {**TOOLS, "per_device_train_batch_size": 4, "ddp_backend": "gloo"}
    got = train(backend, tmp_path / "result.pt", ranks=2, options=options)
    assert got["calls"] == expected["calls"] == [10 / 8]
    start = AutoModelForImageTextToText.from_pretrained(model_dir).state_dict()
    assert difference(start, expected["parameters"], got) < 1e-4
    assert got["losses"] == pytest.approx(expected["losses"], abs=1e-6)


@pytest.mark.parametrize("backend", ["fsdp2", "zero3"])
def test_slices_of_sharded_weights_are_refused(train, tmp_path, backend):
    if backend.startswith("zero"):
        pytest.importorskip("deepspeed")
    options = {**SLICED, "per_device_train_batch_size": 4, "ddp_backend": "gloo", "completions_per_slice": 3}
    reason = "FSDP and ZeRO-3 do not gather the weights"
    train(backend, tmp_path / "result.pt", ranks=2, options=options, refused=reason)


@pytest.fixture(scope="module")
def evaluated(train: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What three ranks with whole weights log for a ragged evaluation."""
    return train("ddp", tmp_path_factory.mktemp("evaluated") / "ddp.pt", ranks=3, options=RAGGED)["evaluations"]


@pytest.mark.parametrize(
    ("backend", "options"),
    [("fsdp2", {}), ("zero3", {}), ("zero3", {"ds3_gather_for_generation": False})],
    ids=["fsdp2", "zero3", "zero3, weights not gathered ahead"],
)
def test_a_ragged_evaluation_ends_on_sharded_ranks(train, evaluated, tmp_path, backend, options):
    if backend.startswith("zero"):
        pytest.importorskip("deepspeed")
    got = train(backend, tmp_path / "result.pt", ranks=3, options={**RAGGED, **options})["evaluations"]
    assert len(got) == len(evaluated) == 1
    expected = {name: value for name, value in evaluated[0].items() if name not in NOT_COMPARED}
    assert expected["eval_completions/min_length"] < expected["eval_completions/max_length"]
    assert {name: got[0][name] for name in expected} == pytest.approx(expected, abs=1e-5, nan_ok=True)


ZERO = {
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "zero_optimization": {"stage3_param_persistence_threshold": 0, "stage3_gather_16bit_weights_on_model_save": True},
    "zero_allow_untested_optimizer": True,
    "zero_force_ds_cpu_optimizer": False,
}
SFT = (
    "--max_steps",
    "2",
    "--lr_scheduler_type",
    "constant",
    "--learning_rate",
    "0.01",
    "--optim",
    "sgd",
    "--max_grad_norm",
    "0",
    "--save_strategy",
    "no",
)


@pytest.mark.parametrize(
    ("backend", "packing"), [("ddp", "true"), ("fsdp2", "false"), ("zero2", "true"), ("zero3", "false")]
)
def test_two_ranks_learn_from_conversations_what_one_process_learns(
    fork: Any, model_dir: Path, rows: Path, tmp_path: Path, backend: str, packing: str
) -> None:
    """The rows have 2, 1, 0, 0, ... images, so that a rank may have none; the replies differ in length."""
    given = [json.loads(line) for line in rows.read_text().splitlines()]
    for number, row in enumerate(given):
        row["conversations"][-1]["value"] = "red thing " * (1 + number % 3)
    (rows.parent / "said.jsonl").write_text("\n".join(map(json.dumps, given)))
    found = {}
    for ranks in (1, 2):
        out = tmp_path / str(ranks)
        words = ("--model", str(model_dir), "--data", str(rows.parent / "said.jsonl"), "--output_dir", str(out), *SFT)
        words += ("--per_device_train_batch_size", str(4 // ranks), "--packing", packing, "--use_cpu", "true")
        script = SFT_SCRIPT
        if backend.startswith("zero") and ranks > 1:
            pytest.importorskip("deepspeed")
            script, stage = SFT_BY_ZERO, tmp_path / "zero.json"
            zero = {**ZERO["zero_optimization"], "stage": int(backend[-1])}
            stage.write_text(json.dumps({**ZERO, "zero_optimization": zero}))
            words += ("--deepspeed", str(stage))
        for process in start_ranks(fork, words, backend=backend if ranks > 1 else "ddp", ranks=ranks, script=script):
            done = process.wait()
            assert done.returncode == 0, done.stderr[-3000:]
        log = json.loads((out / "trainer_state.json").read_text())["log_history"]
        found[ranks] = {
            "parameters": AutoModelForImageTextToText.from_pretrained(out).state_dict(),
            "losses": [entry["loss"] for entry in log if "loss" in entry],
            "tokens": [entry["num_tokens"] for entry in log if "num_tokens" in entry],
        }
    assert found[2]["losses"] == pytest.approx(found[1]["losses"], abs=1e-5)
    assert found[2]["tokens"] == found[1]["tokens"]
    start = AutoModelForImageTextToText.from_pretrained(model_dir).state_dict()
    assert difference(start, found[1]["parameters"], found[2]) < 1e-4
