"""Shows a trainer's steps as progress. It is not in `progress.py`, which commands use that do not load transformers."""

from collections.abc import Callable

from transformers import TrainerCallback
from triptych_data.progress import Stage

from triptych_trainer.monitor.pace import Stopwatch, peak_bytes

__all__ = ["StepProgress"]


class StepProgress(TrainerCallback):
    """Feeds a stage from the trainer's steps and logs: rewards, length, groups without variance, pace, memory."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.logged: list[dict[str, float]] = []
        self.held_out: list[dict[str, float]] = []
        """The logs of evaluations during the run."""
        self.stopwatch = Stopwatch()
        self.num_images_trained: Callable[[], int] = lambda: 0
        """How many images the trainer has trained on so far; set once the trainer is there."""

    def on_train_begin(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        """Start at the step a resumed run continues from."""
        self.stage.start_at(state.global_step, total=state.max_steps)
        self.stopwatch.start(tokens=state.num_input_tokens_seen, images=self.num_images_trained())

    def on_step_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        """Move the stage on; a step whose numbers are logged waits for them, so that no line shows another step's."""
        if not control.should_log:
            self.stage.move_to(state.global_step, status=None)

    def on_log(self, args, state, control, logs=None, **kwargs):  # type: ignore[no-untyped-def]
        """Keep the logged numbers and show the main ones."""
        if logs and any(name.startswith("eval_") for name in logs):
            self.held_out.append(dict(logs))
        if not logs or not ("reward" in logs or "loss" in logs):
            return
        self.logged.append(dict(logs))
        tokens = state.num_input_tokens_seen or logs.get("num_tokens", 0)
        pace = self.stopwatch.cut(tokens=tokens, images=self.num_images_trained())
        if "reward" not in logs:  # no rollouts: supervised fine-tuning
            entropy = f"entropy {logs.get('entropy', 0.0):.3f}"
            status = f"loss {logs['loss']:.4f}  {entropy}  {pace}  {peak_bytes() / 2**30:.1f} GiB"
            self.stage.move_to(state.global_step, status=status)
            return
        parts = [f"reward {_number(logs['reward'])}"]
        if (accuracy := logs.get("rewards/accuracy/mean")) is not None:
            parts.append(f"accuracy {accuracy:.3f}")
        parts.append(f"length {logs.get('completions/mean_length') or 0.0:.0f}")
        parts.append(f"without variance {logs.get('frac_reward_zero_std') or 0.0:.0%}")
        if (mismatch := logs.get("sampling/mismatch_kl")) is not None:
            parts.append(f"mismatch {mismatch:.2g}")
        status = "  ".join([*parts, str(pace), f"{peak_bytes() / 2**30:.1f} GiB"])
        self.stage.move_to(state.global_step, status=status)


def _number(value: float | None) -> str:
    """TRL logs None for a mean over nothing: no reward function scored any completion."""
    return "-" if value is None else f"{value:.3f}"
