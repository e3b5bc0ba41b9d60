"""Watches whether steps can teach anything, and warns on the terminal, in the trackers and in the run's record."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback
from trl import GRPOConfig

from triptych_trainer.monitor.no_learning import Generation, Standstill, in_words
from triptych_trainer.monitor.run_record import add_to_record, read_run_record
from triptych_trainer.monitor.tracker_guard import warn_switched_off
from triptych_trainer.monitor.weight_change import WeightSample
from triptych_trainer.options.written import as_written

__all__ = ["WARNINGS", "LearningWatch"]

WARNINGS = "warnings"
"""The entry of ``run.json`` that contains the warnings, by their step; the report shows it."""


class LearningWatch(TrainerCallback):
    """Warns once when a run has learned nothing for ``num_steps`` steps; 0 never warns."""

    def __init__(self, args: GRPOConfig, *, num_steps: int, callbacks: Sequence[TrainerCallback]) -> None:
        """Write to the record in ``args.output_dir``; among ``callbacks`` is TensorBoard's, with its open file."""
        self.callbacks = callbacks
        self.first_step = 0
        self.sample: WeightSample | None = None
        self.standstill = Standstill(
            num_steps=num_steps,
            max_completion_tokens=args.max_completion_length,
            mask_truncated=args.mask_truncated_completions,
        )

    def see(self, generation: Generation, *, step: int) -> None:
        """Take in a generation that is trained on; called on all ranks."""
        self.standstill.see(generation, step=step)

    def on_train_begin(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        """Read in the log of a resumed run which rewards have varied."""
        self.first_step = state.global_step
        self.standstill.learn_from_log(state.log_history)

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):  # type: ignore[no-untyped-def]
        """Keep some weights of the last step before the warning, to see whether the optimizer changes them."""
        num_steps = self.standstill.num_steps
        if num_steps > 0 and model is not None and state.global_step + 1 - self.first_step == num_steps:
            self.sample = WeightSample(model.parameters())

    def on_optimizer_step(self, args, state, control, optimizer=None, **kwargs):  # type: ignore[no-untyped-def]
        """Compare these weights with what they are now."""
        if self.sample is not None:
            groups = getattr(optimizer, "param_groups", None) or [{}]
            update = self.sample.update(learning_rate=groups[0].get("lr", args.learning_rate))
            self.standstill.see_update(update, step=state.global_step + 1)
            self.sample = None

    def on_step_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        """Check a step, or, if it is logged, check it when its numbers are there: one warning then names everything."""
        if not control.should_log:
            self._look(args, state)

    def on_log(self, args, state, control, logs=None, **kwargs):  # type: ignore[no-untyped-def]
        """Look at the logged numbers, and at the norm of the gradient if it is among them."""
        if logs and "loss" in logs:
            if logs.get("grad_norm") is not None:
                self.standstill.see_gradient(float(logs["grad_norm"]), step=state.global_step)
            self._look(args, state)

    def _look(self, args: Any, state: Any) -> None:
        num_steps = self.standstill.num_steps
        findings = self.standstill.findings(state.global_step)
        if not findings or not state.is_world_process_zero:
            return
        text = as_written(in_words(findings, step=state.global_step, num_steps=num_steps))
        warnings.warn(text, RuntimeWarning, stacklevel=2)
        folder = Path(args.output_dir)
        before: Mapping[str, Any] = read_run_record(folder).get(WARNINGS) or {}
        add_to_record(folder, WARNINGS, {**before, str(state.global_step): text})
        for name in args.report_to:
            try:
                self._tell(name, text, step=state.global_step)
            except Exception as error:  # whatever it is, the run does not depend on it
                warn_switched_off(name, error)

    def _tell(self, tracker: str, text: str, *, step: int) -> None:
        """Where a tracker shows texts, let it show this one."""
        if tracker == "tensorboard":
            for callback in self.callbacks:
                if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
                    callback.tb_writer.add_text("warning", text, step)
                    callback.tb_writer.flush()
        elif tracker == "wandb":
            import wandb

            if wandb.run is not None:
                wandb.run.summary["warning"] = text
                wandb.run.alert(title="the run does not learn", text=text)
        elif tracker == "trackio":
            import trackio

            trackio.alert(title="the run does not learn", text=text)
