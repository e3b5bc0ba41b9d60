"""The identity of a run: its id and its settings. A resumed run is compared with them, one by one."""

import hashlib
import json
import uuid
from array import array
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

from triptych_data import Examples

from triptych_trainer.checkpoints.folder import CheckpointError
from triptych_trainer.options.arguments import TrainingConfig

__all__ = ["Run", "check_same_run", "check_same_weights", "data_digest", "new_run_id", "options_of"]

GROUP_SIZE = "num_generations"
TRAINED = (
    *("use_peft", "merge_adapter", "lora_r", "lora_target_modules", "lora_target_parameters", "lora_modules_to_save"),
    *("use_dora", "freeze_vision_modules", "optim", "vision_learning_rate"),
)
"""Options that say which parameters are trained, and what an optimizer keeps for each."""
WITHOUT_INFLUENCE = (
    *("output_dir", "run_name", "resume_from_checkpoint", "quiet", "rollouts", "memory_forecast", "disable_tqdm"),
    *("data", "eval_data", "image_root", "allow_outside", "allow_remote", "quarantine"),
    *("gradient_checkpointing", "activation_checkpointing", "memory_gib"),
    *("ddp_backend", "ddp_timeout", "ddp_find_unused_parameters"),
    *("image_cache_gb", "image_threads", "debug", "local_rank", "restore_callback_states_from_checkpoint"),
)
PREFIXES_WITHOUT_INFLUENCE = (
    *("log_", "logging_", "report_", "hub_", "push_to_hub", "save_", "dataloader_", "tpu_", "trackio_"),
    *("vllm_server_", "vllm_group_", "num_completions_to_print", "_"),
)
"""Options that change neither the numbers of a step nor their order; data files are compared by their content."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Contains the identity of a run, as each of its checkpoints' manifests contains it."""

    id: str
    """Random, made when the run was started; a resumed run keeps it."""
    options: Mapping[str, Any]
    """The options that can change what the run computes, by name."""
    data: str
    """Digest of the training data."""
    held_out: str
    """Digest of the evaluation data."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """What no option names, by its name: digests of the processor and of the user's own code, the versions, ..."""
    weights: str | None = None
    """Digest of the model that the run was started with (see ``weights_digest``); None before it is loaded."""

    def to_json(self) -> dict[str, Any]:
        """Return the form in which a manifest contains it."""
        return asdict(self)


def new_run_id() -> str:
    """Return a name that no other run has."""
    return uuid.uuid4().hex[:12]


def options_of(config: TrainingConfig) -> dict[str, Any]:
    """Return the options of a run that can change what it computes, in the form of JSON."""
    values: dict[str, Any] = {**config.trl.to_dict()}
    for part in (config.run, config.model):
        values |= {option.name: getattr(part, option.name) for option in fields(part)}
    kept = {
        name: value.value if isinstance(value, Enum) else value
        for name, value in sorted(values.items())
        if name not in WITHOUT_INFLUENCE and not name.startswith(PREFIXES_WITHOUT_INFLUENCE)
    }
    return dict(json.loads(json.dumps(kept, default=str)))


def data_digest(examples: Examples | None) -> str:
    """Return the digest of a data set: of the content of its files, in whatever folder, and of which of their rows are
    used.
    """
    if examples is None:
        return hashlib.sha256().hexdigest()[:32]
    digest = hashlib.sha256(array("q", examples.row_numbers).tobytes())
    digest.update(examples.rows.fingerprint().encode())
    return digest.hexdigest()[:32]


def check_same_run(saved: Mapping[str, Any] | None, run: Run, *, checkpoint: Path) -> list[str]:
    """Compare a run with the one that wrote the checkpoint; one sentence for each option that differs.

    Raises:
        CheckpointError: the training data, the group size or the trained parameters differ.
    """
    if saved is None:
        return [f"{checkpoint.name} does not say what it was trained with: options and data are not compared"]
    options = saved.get("options", {})
    if saved.get("data") != run.data:
        raise CheckpointError(
            f"--data: the training data are not those of {checkpoint}, whose place in them would mean other rows; give "
            f"the data that the run was started with, or train on from its weights as a new run: "
            f"--model_name_or_path {checkpoint} without --resume_from_checkpoint, and another --output_dir"
        )
    if options and (GROUP_SIZE in options) != (GROUP_SIZE in run.options):
        wrote, other = ("train", "sft") if GROUP_SIZE in options else ("triptych sft", "train")
        raise CheckpointError(
            f"--resume_from_checkpoint {checkpoint}: expected a checkpoint of the same kind of training, got one of "
            f"`{wrote}`, whose optimizer is not that of `{other}`; train on from its weights as a new run: "
            f"--model_name_or_path {checkpoint} without --resume_from_checkpoint, and another --output_dir"
        )
    before, now = options.get(GROUP_SIZE), run.options.get(GROUP_SIZE)
    if before != now:
        raise CheckpointError(
            f"--{GROUP_SIZE} {now}: {checkpoint} was trained with groups of {before} completions, and a group keeps "
            f"its size for the whole run; give --{GROUP_SIZE} {before}, or start a new run in another --output_dir"
        )
    _check_trained(options, run.options, checkpoint=checkpoint)
    found = []
    if saved.get("held_out") != run.held_out:
        found.append(f"--eval_data: the evaluation data are not those of {checkpoint.name}; scores do not compare")
    sources = saved.get("sources", {})
    found += [
        f"{name} is not what {checkpoint.name} was trained with{_values(sources[name], run.sources[name])}, "
        "and is used as it is now"
        for name in sorted(sources.keys() & run.sources.keys())
        if sources[name] != run.sources[name]
    ]
    names = sorted(name for name in options.keys() & run.options.keys() if options[name] != run.options[name])
    return found + [
        f"--{name} is {run.options[name]!r} from here on; {checkpoint.name} was trained with {options[name]!r}"
        for name in names
    ]


def _values(before: Any, now: str) -> str:
    """Both values of what is no digest: a version, a kind of device."""
    return f" ({now} for {before})" if max(len(str(before)), len(now)) < 24 else ""


def _check_trained(options: Mapping[str, Any], now: Mapping[str, Any], *, checkpoint: Path) -> None:
    for name in TRAINED:
        before, value = options.get(name), now.get(name)
        if name in options and _kind(name, before) != _kind(name, value):
            raise CheckpointError(
                f"--{name}: {checkpoint} was trained with {before!r}, and what its optimizer keeps does not belong to "
                f"{value!r}; give the option as it was, or train on from its weights as a new run: "
                f"--model_name_or_path {checkpoint} without --resume_from_checkpoint, and another --output_dir"
            )


def _kind(name: str, value: Any) -> Any:
    """What must not change of an option: whether a learning rate is given; what an optimizer keeps."""
    if name == "vision_learning_rate":
        return value is None
    return str(value).removesuffix("_fused") if name == "optim" else value


def check_same_weights(saved: Mapping[str, Any] | None, run: Run, *, checkpoint: Path, has_adapters: bool) -> list[str]:
    """Compare the models that both runs were started with; a sentence where they differ without consequence.

    Raises:
        CheckpointError: the checkpoint's adapters or reference model belong to other weights.
    """
    before = None if saved is None else saved.get("weights")
    if before is None or before == run.weights:
        return []
    path, needed = run.options.get("model_name_or_path"), None
    if has_adapters:
        needed = "its adapters belong to the weights that it was started with"
    elif run.options.get("beta"):
        needed = "with --beta the weights that it was started with are its reference"
    what = f"--model_name_or_path {path} contains other weights than {checkpoint} was started with"
    if needed is not None:
        raise CheckpointError(f"{what}, and {needed}; give the model (and --dtype) that the run was started with")
    return [f"{what}; without consequence, because all weights are read from the checkpoint"]
