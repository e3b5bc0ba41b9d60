"""TRL's trainers with checkpoints that are whole or absent and contain all that the next step depends on."""

import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from transformers import PreTrainedModel, Trainer, TrainerCallback
from triptych_data.seen_headers import SeenHeaders

from triptych_trainer.checkpoints.card import write_card
from triptych_trainer.checkpoints.cycle import other_layout, read_cycle, unlogged_loss, write_cycle
from triptych_trainer.checkpoints.finite import check_finite
from triptych_trainer.checkpoints.folder import (
    CheckpointError,
    failure_of_save,
    name_aside,
    publish,
    remove_unfinished,
    rotate,
    seal,
)
from triptych_trainer.checkpoints.images import write_images
from triptych_trainer.checkpoints.kind import check_is_checkpoint
from triptych_trainer.checkpoints.optimizer_options import groups_of, set_options
from triptych_trainer.checkpoints.ranks import any_rank
from triptych_trainer.checkpoints.weights import dtypes_kept, load_weights
from triptych_trainer.options.written import as_written
from triptych_trainer.upstream.torch_names import load_to_numbered_cpus
from triptych_trainer.upstream.transformers_names import TRAINER_STATE_NAME

__all__ = ["ResumableTrainer"]

WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)
"""What a full disk turns into: torch.save raises RuntimeError, safetensors its own error, the rest OSError."""


class ResumableTrainer(Trainer):
    """Saves atomically, and resumes in the middle of a logging interval, in any epoch; a base before a trainer of TRL.

    TRL's checkpoints leave out the metrics that are not logged yet, and the losses and the time since the start of the
    run. Each rank adds them in its cycle file (see ``checkpoints.cycle``), with what only a subclass knows: GRPO has
    a generation under way (``checkpoints.resume_grpo``). The order of the rows is a function of seed and epoch.
    """

    run: Mapping[str, Any] | None = None
    """What the manifest of each checkpoint says about the run: its id and what it was started with (see ``Run``)."""
    seen: SeenHeaders | None = None
    """What the run knows of its images, for a later resume to compare; None where a script began the run."""
    num_images_trained: int = 0
    """Images of the prompts trained on so far, on all ranks."""
    nothing_left: bool = False
    """Whether the checkpoint that a resumed run goes on from is already that of its last step."""
    _aside: Path | None = None
    _resumed_from: Path | None = None
    _train_sampler: Any = None
    """Set by a subclass in ``_get_train_sampler``; knows its epoch by ``set_epoch``."""
    _metrics: Any
    _seconds_before: float = 0.0
    _began: float = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_callback(_RestoreCycle(self))

    def train(
        self, resume_from_checkpoint: str | bool | None = None, trial: Any = None, ignore_keys_for_eval: Any = None
    ) -> Any:
        """Train as transformers does; a folder to go on from is looked at before anything is loaded from it.

        Raises:
            UsageError: there is no such folder, or it is no checkpoint.
            CheckpointError: a file of the checkpoint is missing or cut short.
        """
        if resume_from_checkpoint and not isinstance(resume_from_checkpoint, bool):
            check_is_checkpoint(Path(resume_from_checkpoint))
        return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._aside is None else str(self._aside)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Run an epoch as transformers does, but train no step after the last one of a run that is resumed there."""
        if self.state.global_step >= self.state.max_steps:
            self.nothing_left = True
            self.model.train()  # TRL's last log is about training only in a model that trains
            self.control.should_training_stop = True
            return
        self._train_sampler.set_epoch(kwargs["epoch"])
        super()._run_epoch(*args, **kwargs)

    def _finalize_training(self, trial: Any, num_train_samples: int, start_time: float) -> Any:
        """Finish as transformers does, with ``train_loss`` and the speeds of all steps, also those before a resume."""
        return super()._finalize_training(trial, num_train_samples, start_time - self._seconds_before)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._aside is None:  # else it is not complete and will move
            super()._push_from_checkpoint(checkpoint_folder)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save as transformers does, but in a folder aside until every rank has written all of its files.

        Raises:
            CheckpointError: on every rank, when any rank could not write.
        """
        output = Path(self._get_output_dir(trial))
        check_finite(self.model, output=output, step=self.state.global_step, device=self.args.device)
        aside = output / str(broadcast_object_list([name_aside(self.state.global_step)])[0])
        folder = aside / f"checkpoint-{self.state.global_step}"
        is_main = self.args.process_index == 0

        def write() -> None:
            if is_main:
                remove_unfinished(output, keep=aside.name)
            self._write(model, trial, folder=folder)

        def finish() -> None:
            seal(folder, step=self.state.global_step, num_ranks=self.args.world_size, run=self.run)
            publish(folder, output=output)
            shutil.rmtree(aside, ignore_errors=True)

        self._on_all_ranks(write, aside=aside)
        self._on_all_ranks(finish if is_main else None, aside=aside)
        other_node = self.args.local_process_index == 0 and folder.is_dir()  # without a common file system
        self._on_all_ranks(finish if other_node else None, aside=aside)
        self.rotate_checkpoints()
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(output / folder.name))

    def create_model_card(self, model_name: str | None = None, dataset_name: Any = None, tags: Any = None) -> None:
        """Write our own README into the output folder, where TRL writes its card."""
        write_card(self, model_name, tags)

    def rotate_checkpoints(self) -> None:
        """Remove the oldest checkpoints beyond ``save_total_limit``: after a save, or when a kill prevented it."""
        if self.args.should_save:
            best = self.state.best_model_checkpoint
            keep = [] if best is None else [Path(best)]
            run_id = None if self.run is None else self.run["id"]
            rotate(Path(self.args.output_dir), limit=self.args.save_total_limit, run=run_id, keep=keep)

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
            write_cycle(folder, self._cycle(), rank=self.args.process_index)
            if self.seen is not None:
                write_images(folder, self.seen, rank=self.args.process_index)

    def _on_all_ranks(self, action: Callable[[], None] | None, *, aside: Path) -> None:
        """Run a part of saving. If it fails on any rank, all ranks remove the unfinished folder and raise an error."""
        error: Exception | None = None
        try:
            if action is not None:
                action()
        except WRITE_ERRORS as caught:
            error = caught
        if any_rank(error is not None, device=self.args.device):
            shutil.rmtree(aside, ignore_errors=True)
            raise CheckpointError(failure_of_save(aside.parent, step=self.state.global_step, error=error)) from error

    def _cycle(self) -> dict[str, Any]:
        return {
            "num_ranks": self.args.world_size,
            "sizes": self.cycle_sizes(),
            "step": self.cycle_position(),
            "batches": self.cycle_under_way(),
            "metrics": {mode: dict(values) for mode, values in self._metrics.items()},
            "loss_since_log": self._tr_loss.item(),
            "last_logged": self._globalstep_last_logged,
            "total_loss": self._total_loss_scalar,
            "seconds": self._seconds_before + time.monotonic() - self._began,
            "parts": self.cycle_parts(),
        }

    def cycle_position(self) -> int:
        """Return the place of the next micro-batch, for trainers whose step number does not say it."""
        return self.state.global_step

    def restore_position(self, position: int) -> None:
        """Take back what ``cycle_position`` returned when the checkpoint was written."""

    def realign(self) -> None:
        """Count the steps of a cycle so as the sampler does, where a checkpoint of other sizes counted otherwise."""

    def cycle_sizes(self) -> dict[str, int]:
        """Return the options that say how a generation is divided, by name; a trainer that has generations overrides
        this.
        """
        return {}

    def cycle_under_way(self) -> Any:
        """Return what later steps are trained on although it was made before the checkpoint, or None if there is
        nothing.
        """

    def restore_cycle_from(self, state: Any) -> None:
        """Take back what ``cycle_under_way`` gave."""

    def cycle_parts(self) -> dict[str, Any]:
        """Return further parts of the cycle by name, as plain values and tensors; a trainer that has some overrides
        this.
        """
        return {}

    def restore_cycle_parts(self, parts: Mapping[str, Any]) -> None:
        """Take back what ``cycle_parts`` returned when the checkpoint was written."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load as transformers does, except for whole models, whose names on disk are not those of their parameters."""
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
        groups = None if checkpoint is None or self.is_deepspeed_enabled else groups_of(self.optimizer)
        load_to_numbered_cpus()
        super()._load_optimizer_and_scheduler(checkpoint)
        if groups is not None:
            set_options(self.optimizer, self.lr_scheduler, groups)
        self._resumed_from = None if checkpoint is None else Path(checkpoint)

    def restore_cycle(self) -> None:
        """Go on where the checkpoint of a resumed run was written; called when the training begins.

        transformers has restored parameters, optimizer, scheduler and random states, and walks the sampler to the next
        batch. With ``logging_steps`` 4, a run that goes on after step 5 logs steps 5 to 8 after step 8: ``metrics`` and
        ``loss_since_log`` have the part of step 5, and ``last_logged`` is 4.
        """
        self._began = time.monotonic()
        folder, self._resumed_from = self._resumed_from, None
        if folder is None:
            return
        cycle = read_cycle(folder, rank=self.args.process_index, known_parts=self.cycle_parts())
        if cycle is None:
            self.realign()
            return
        self.restore_position(cycle["step"])
        for mode, values in cycle["metrics"].items():
            self._metrics[mode].update(values)
        self._tr_loss += unlogged_loss(folder, cycle, num_ranks=self.args.world_size)
        self._globalstep_last_logged = cycle["last_logged"]
        self._total_loss_scalar = cycle["total_loss"]
        self._initial_global_step = 0  # train_loss divides by the steps since this one, below transformers 5.19 by all
        self._seconds_before = cycle["seconds"]
        self._find_best_beside(folder)
        if cycle["num_ranks"] == self.args.world_size:
            self.restore_cycle_parts(cycle["parts"])
        reason = other_layout(cycle, num_ranks=self.args.world_size, sizes=self.cycle_sizes())
        if any_rank(reason is not None, device=self.args.device):
            self.realign()
            if self.args.process_index == 0:
                reason = reason or "without a cycle file of each rank"
                warnings.warn(as_written(f"{folder.name} was written {reason}"), stacklevel=2)
        elif cycle["batches"] is not None:
            self.restore_cycle_from(cycle["batches"])

    def _find_best_beside(self, folder: Path) -> None:
        """Look for the best checkpoint in the folder of the one that the run goes on from, which can have moved."""
        if self.state.best_global_step is None:
            return
        best = folder.with_name(f"checkpoint-{self.state.best_global_step}")
        if best.is_dir():
            self.state.best_model_checkpoint = str(best)


class _RestoreCycle(TrainerCallback):
    def __init__(self, trainer: ResumableTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        self.trainer.restore_cycle()
        if state.global_step > 0:
            self.trainer.rotate_checkpoints()
