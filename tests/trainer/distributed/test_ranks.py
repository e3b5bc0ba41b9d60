"""Two gloo processes train what one process trains, in every way of spreading a model over ranks."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText
from triptych_trainer.checkpoints.folder import defect

from .ranks import difference, start_ranks

WORKER = Path(__file__).parent / "worker.py"
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
