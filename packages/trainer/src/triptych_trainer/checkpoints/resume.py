"""TRL's GRPO trainer whose checkpoints are whole or absent, and hold all that the next step depends on."""

import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, send_to_device
from safetensors import SafetensorError
from transformers import PreTrainedModel, TrainerCallback
from trl import GRPOTrainer

from triptych_trainer.checkpoints.folder import (
    CheckpointError,
    latest_checkpoint,
    name_aside,
    publish,
    remove_unfinished,
    seal,
)
from triptych_trainer.checkpoints.ranks import any_rank
from triptych_trainer.upstream.transformers_names import TRAINER_STATE_NAME, rotate_checkpoints

__all__ = ["ResumableGRPOTrainer"]

WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)
"""What a full disk turns into: torch.save raises RuntimeError, safetensors its own error, the rest OSError."""


class ResumableGRPOTrainer(GRPOTrainer):
    """Saves atomically, and resumes in the middle of a generation cycle or of a logging interval, in any epoch.

    TRL's checkpoints leave out the completions that later steps still train on, the position in that cycle, the
    metrics that are not logged yet, and how often the sampler has shuffled. Each rank adds them: ``cycle_<rank>.pt``.
    """

    _aside: Path | None = None
    _resumed_from: Path | None = None
    _train_sampler: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_callback(_RestoreCycle(self))

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._aside is None else str(self._aside)

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        self._train_sampler = super()._get_train_sampler(dataset)
        return self._train_sampler

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._aside is None:  # else it is not complete and will move
            super()._push_from_checkpoint(checkpoint_folder)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """As transformers', but in a folder aside until every rank has written all of its files.

        Raises:
            CheckpointError: on every rank, when any rank could not write.
        """
        output = Path(self._get_output_dir(trial))
        aside = output / str(broadcast_object_list([name_aside(self.state.global_step)])[0])
        folder = aside / f"checkpoint-{self.state.global_step}"
        is_main = self.args.process_index == 0

        def write() -> None:
            if is_main:
                remove_unfinished(output, keep=aside.name)
            self._write(model, trial, folder=folder)

        def finish() -> None:
            seal(folder, step=self.state.global_step, num_ranks=self.args.world_size)
            publish(folder, output=output)
            shutil.rmtree(aside, ignore_errors=True)

        self._on_all_ranks(write, aside=aside)
        self._on_all_ranks(finish if is_main else None, aside=aside)
        other_node = self.args.local_process_index == 0 and folder.is_dir()  # without a common file system
        self._on_all_ranks(finish if other_node else None, aside=aside)
        if self.args.should_save:
            best = self.state.best_model_checkpoint
            rotate_checkpoints(str(output), self.args.save_total_limit, best, use_mtime=True)
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(output / folder.name))

    def _write(self, model: Any, trial: Any, *, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._aside = folder.parent
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._aside = None
        if self.state.best_model_checkpoint == str(folder):
            self.state.best_model_checkpoint = str(folder.parent.parent / folder.name)
            if self.args.should_save:
                self.state.save_to_json(str(folder / TRAINER_STATE_NAME))
        if not self.args.save_only_model:
            torch.save(self._cycle(), folder / f"cycle_{self.args.process_index}.pt")

    def _on_all_ranks(self, action: Callable[[], None] | None, *, aside: Path) -> None:
        """Run a part of saving; when it fails on any rank, remove what is there and raise on all."""
        error: Exception | None = None
        try:
            if action is not None:
                action()
        except WRITE_ERRORS as caught:
            error = caught
        if any_rank(error is not None, device=self.args.device):
            shutil.rmtree(aside, ignore_errors=True)
            raise CheckpointError(_failure(aside.parent, step=self.state.global_step, error=error)) from error

    def _cycle(self) -> dict[str, Any]:
        every = self.args.steps_per_generation * self.num_iterations
        return {
            "num_ranks": self.args.world_size,
            "step": self._step,
            "batches": self.cycle_to_state() if self._step % every else None,
            "metrics": {mode: dict(values) for mode, values in self._metrics.items()},
            "loss_since_log": self._tr_loss.item(),
            "last_logged": self._globalstep_last_logged,
        }

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """As transformers', but for whole models, whose names on disk are not those of their parameters."""
        if self._is_plain_model():
            load_weights(self.model if model is None else model, Path(resume_from_checkpoint))
        else:
            with dtypes_kept(self.model if model is None else model):
                super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if self._is_plain_model() and self.state.best_model_checkpoint is not None:
            load_weights(self.model, Path(self.state.best_model_checkpoint))
        else:
            with dtypes_kept(self.model):
                super()._load_best_model()

    def _is_plain_model(self) -> bool:
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        return not sharded and isinstance(self.model, PreTrainedModel) and not self.model._hf_peft_config_loaded

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        self._resumed_from = None if checkpoint is None else Path(checkpoint)

    def restore_cycle(self) -> None:
        """Go on where the checkpoint of a resumed run stands; called when the training begins."""
        folder, self._resumed_from = self._resumed_from, None
        if folder is None:
            return
        generator = getattr(self._train_sampler, "generator", None)
        if generator is not None:  # it shuffles once per epoch and goes on from there
            for _ in range(int(self.state.epoch or 0)):
                torch.randperm(self._train_sampler.num_samples, generator=generator)
        file = folder / f"cycle_{self.args.process_index}.pt"
        if not file.is_file():
            return
        cycle = torch.load(file, map_location="cpu", weights_only=True)
        self._step = cycle["step"]
        for mode, values in cycle["metrics"].items():
            self._metrics[mode].update(values)
        self._tr_loss += cycle["loss_since_log"]
        self._globalstep_last_logged = cycle["last_logged"]
        if cycle["batches"] is None:
            return
        if cycle["num_ranks"] != self.args.world_size:
            warnings.warn(
                f"{folder.name} was written by {cycle['num_ranks']} ranks and goes on with {self.args.world_size}: "
                "the completions of the generation cycle under way are sampled again",
                stacklevel=2,
            )
            return
        self.restore_cycle_from(cycle["batches"])

    def cycle_to_state(self) -> Any:
        """What later steps of the generation under way are trained on, as plain values and tensors."""
        return self._buffered_inputs

    def restore_cycle_from(self, state: Any) -> None:
        """Take back what ``cycle_to_state`` gave."""
        self._buffered_inputs = send_to_device(state, self.args.device)


def load_weights(model: PreTrainedModel, folder: Path) -> None:
    """Load what ``save_pretrained`` wrote, by the same rules of names, and miss nothing.

    transformers 5.23 saves a vision-language model under the names of the hub (``visual.``, ``model.layers.``), but
    its trainer looks for ``model.visual.`` and ``model.language_model.``, finds none, and goes on with the weights
    it started from.
    """
    saved = type(model).from_pretrained(folder, dtype="auto")
    model.load_state_dict(saved.state_dict())


@contextmanager
def dtypes_kept(model: torch.nn.Module) -> Iterator[None]:
    """Give trained parameters their dtype back: PEFT reads bfloat16 adapters, which QLoRA trains, as float32."""
    before = {name: parameter.dtype for name, parameter in model.named_parameters() if parameter.requires_grad}
    yield
    for name, parameter in model.named_parameters():
        if parameter.dtype != before.get(name, parameter.dtype):
            parameter.data = parameter.data.to(before[name])


class _RestoreCycle(TrainerCallback):
    def __init__(self, trainer: ResumableGRPOTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        self.trainer.restore_cycle()


def _failure(output: Path, *, step: int, error: Exception | None) -> str:
    cause = " ".join(str(error).split()) if error is not None else "another rank could not write its part"
    found, _ = latest_checkpoint(output)
    kept = f"{found.name} is whole" if found else "there is no earlier one"
    needed = sum(path.stat().st_size for path in found.rglob("*") if path.is_file()) if found else 0
    size = f" and takes {needed / 2**20:.0f} MiB" if found else ""
    return (
        f"checkpoint-{step} cannot be written to {output}, which has {shutil.disk_usage(output).free / 2**20:.0f} MiB "
        f"free: {cause}; {kept}{size}. Make room (--save_total_limit keeps fewer), "
        "then go on with --resume_from_checkpoint latest"
    )
