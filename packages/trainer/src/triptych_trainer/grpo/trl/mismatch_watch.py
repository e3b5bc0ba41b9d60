"""Warn of an engine that samples from another model than the one that is trained, or end the run."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.mismatch import Mismatch, likely_causes
from triptych_trainer.grpo.vllm import MOST_TOLD, RolloutMismatchError
from triptych_trainer.models.families import family_of
from triptych_trainer.models.learning_rates import trainable_vision_parameters
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.options.vllm_refusals import other_probabilities
from triptych_trainer.options.written import as_written

if TYPE_CHECKING:
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer

__all__ = ["MismatchWarning", "MismatchWatch", "warn_of_ban"]

MOSTLY = 0.5
"""The share of rollouts without weight from which a run warns."""


class MismatchWarning(UserWarning):
    """Says that the engine samples from another distribution than the trainer scores."""


class MismatchWatch:
    """Watches ``mismatch_kl`` over the steps of a run; warns once of each thing."""

    def __init__(self, *, warn: float | None, limit: float | None) -> None:
        """Warn above ``warn`` and end the run above ``limit``; None: never.

        Raises:
            UsageError: a bound that is not positive.
        """
        for name, bound in (("warn", warn), ("limit", limit)):
            if bound is not None and not bound > 0:
                raise UsageError(f"--mismatch_kl_{name} {bound:g}: expected a number above 0")
        self.warn, self.limit = warn, limit
        self.warned: set[str] = set()

    def check(self, trainer: "MultiImageGRPOTrainer", found: Mapping[int, Mismatch], *, dropped: float) -> None:
        """Look at one generation; ``dropped`` is the share of rollouts that the correction gave no weight.

        Raises:
            RolloutMismatchError: the mean is above the limit, with its likeliest cause.
        """
        mean = sum(found.values(), Mismatch()).mean
        bound = min((bound for bound in (self.warn, self.limit) if bound is not None), default=None)
        if bound is not None and not mean <= bound:  # NaN as well
            self.tell(trainer, found, mean=mean)
        if dropped > MOSTLY and "dropped" not in self.warned:
            self.warned.add("dropped")
            mode, most = trainer.vllm_importance_sampling_mode, trainer.vllm_importance_sampling_clip_max
            text = (
                f"step {trainer.state.global_step}: --vllm_importance_sampling_mode {mode} gave {dropped:.0%} of the "
                f"completions the weight 0, because their ratios are beyond {most}; the product over all tokens grows "
                "with their number: sequence_mean_mask takes the geometric mean, token_truncate each token by itself"
            )
            warnings.warn(as_written(text), MismatchWarning, stacklevel=2)

    def tell(self, trainer: "MultiImageGRPOTrainer", found: Mapping[int, Mismatch], *, mean: float) -> None:
        """Warn once of a mean above the bounds, or end the run."""
        by_images = ", ".join(f"{one.mean:.2g} with {number}" for number, one in found.items())
        causes = likely_causes(
            found,
            tower_trains=bool(trainable_vision_parameters(trainer.model)),
            adapter_dropout=_adapter_dropout(trainer),
            other_probabilities=other_probabilities(trainer.args),
            lag=0 if trainer.ahead is None else trainer.ahead.lag,
        )
        what = f"step {trainer.state.global_step}: mismatch_kl is {mean:.3g}"
        why = f"by images in the prompt: {by_images}; likeliest cause: {'; or '.join(causes)}"
        if self.limit is not None and not mean <= self.limit:
            raise RolloutMismatchError(
                f"{what}, above --mismatch_kl_limit {self.limit:g}: vLLM samples from another model than the one that "
                f"is trained ({why})"
            )
        if "mean" not in self.warned:
            self.warned.add("mean")
            text = (
                f"{what}, above --mismatch_kl_warn {self.warn:g}: vLLM samples from another model than the one that is "
                f"trained ({why})"
            )
            warnings.warn(as_written(text), MismatchWarning, stacklevel=3)


def warn_of_ban(trainer: "MultiImageGRPOTrainer") -> None:
    """Warn where vLLM returns too few log-probabilities for the ban of image tokens to be taken out of the ratios."""
    if not trainer.use_vllm:
        return
    base, most = unwrap(trainer.model), MOST_TOLD[trainer.args.vllm_mode]
    banned = len(set(family_of(base).image_token_ids(base.config)))
    if banned > most:
        text = (
            f"--vllm_mode {trainer.args.vllm_mode}: vLLM returns the log-probabilities of {most} banned tokens, and "
            f"{type(base).__name__} has {banned} that represent images, so that their ban stays in mismatch_kl and in "
            "the ratios, by the probability that the model gives them (little, once it is trained)"
        )
        warnings.warn(as_written(text), MismatchWarning, stacklevel=2)


def _adapter_dropout(trainer: "MultiImageGRPOTrainer") -> float:
    """The largest probability with which an adapter drops inputs; 0 without adapters."""
    configs = getattr(trainer.accelerator.unwrap_model(trainer.model), "peft_config", {})
    return max((getattr(config, "lora_dropout", 0.0) or 0.0 for config in configs.values()), default=0.0)
