"""The passes of a step on the models of TRL's trainer: how each model is opened, and which settings it runs with."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from transformers.integrations import is_deepspeed_zero3_enabled

from triptych_trainer.forward.prefill import OnPrefill
from triptych_trainer.grpo.sampler import model_sampler
from triptych_trainer.grpo.step import Correction, Sampler, Scoring, StepSettings
from triptych_trainer.grpo.trl.completions import completion_reader
from triptych_trainer.grpo.trl.vllm_sampler import vllm_sampler
from triptych_trainer.prompts.bad_rows import prepared_with
from triptych_trainer.prompts.prepare import PreparedPrompt
from triptych_trainer.upstream.trl_names import (
    disable_gradient_checkpointing,
    profiling_context,
    unwrap_model_for_generation,
    use_adapter,
)
from triptych_trainer.verification.first_use import verify_first_use

if TYPE_CHECKING:
    from triptych_trainer.grpo.trl.ahead import Begun
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer

__all__ = [
    "opened_for_generation",
    "opened_for_scoring",
    "prompts_of",
    "sampler",
    "scoring",
    "settings",
    "shards_weights",
    "verify",
]


def settings(trainer: "MultiImageGRPOTrainer", *, mode: str) -> StepSettings:
    """Return what TRL's configuration says of a step."""
    args = trainer.args
    turns = trainer.turns
    corrected = trainer.use_vllm and trainer.vllm_importance_sampling_correction
    return StepSettings(
        reward_weights=tuple(trainer.reward_weights.tolist()),
        aggregation=trainer.multi_objective_aggregation,
        scale_rewards=trainer.scale_rewards,
        mask_truncated=trainer.mask_truncated_completions,
        rollouts_per_pass=args.per_device_train_batch_size if mode == "train" else args.per_device_eval_batch_size,
        correction=Correction(
            mode=trainer.vllm_importance_sampling_mode,
            clip_min=trainer.vllm_importance_sampling_clip_min,
            clip_max=trainer.vllm_importance_sampling_clip_max,
        )
        if corrected
        else None,
        step_weight=turns.weight if turns.comparison == "gigpo" else None,
        step_gamma=turns.gamma,
        mask_over_turn=turns.mask_over_turn,
    )


def sampler(trainer: "MultiImageGRPOTrainer", begun: "Begun | None" = None) -> Sampler:
    """Return the engine that writes completions: vLLM, or the policy itself; ``begun`` is what a server was asked
    before.
    """
    end_ids = frozenset(trainer.eos_token_ids)
    read, version = completion_reader(trainer._tokenizer), trainer.state.global_step
    if not trainer.use_vllm:
        return model_sampler(
            trainer.engine,
            lambda: opened_for_generation(trainer),
            generation_config=trainer.generation_config,
            read=read,
            end_ids=end_ids,
            policy_version=version,
            several_turns=trainer.play is not None,
            anywhere=partial(_anywhere, trainer) if shards_weights(trainer) else bool,
        )
    return vllm_sampler(trainer, begun, read=read, end_ids=end_ids)


def shards_weights(trainer: "MultiImageGRPOTrainer") -> bool:
    """Return whether no rank has all weights (FSDP, ZeRO-3)."""
    return trainer.is_fsdp_enabled or (trainer.is_deepspeed_enabled and is_deepspeed_zero3_enabled())


def _anywhere(trainer: "MultiImageGRPOTrainer", mine: bool) -> bool:
    accelerator = trainer.accelerator
    return bool(accelerator.gather(torch.tensor([int(mine)], device=accelerator.device)).max())


@contextmanager
def opened_for_generation(trainer: "MultiImageGRPOTrainer") -> Iterator[torch.nn.Module]:
    """Open the policy for generation: unwrapped, with its weights gathered, and without checkpointing."""
    with (
        profiling_context(trainer, "transformers.generate"),
        unwrap_model_for_generation(
            trainer.model_wrapped,
            trainer.accelerator,
            gather_deepspeed3_params=trainer.args.ds3_gather_for_generation,
            generation_kwargs=trainer.generation_kwargs,
            gradient_checkpointing_kwargs=trainer.args.gradient_checkpointing_kwargs,
        ) as model,
        trainer._dist.summon_full_params(trainer.model_wrapped, recurse=False),
    ):
        yield model


def scoring(trainer: "MultiImageGRPOTrainer") -> Scoring:
    """Return which passes without gradient a step needs, and on which model.

    The old policy is scored where its weights will have moved before all of a generation is trained on, and where what
    another engine sampled has to be compared with what is trained.
    """
    args = trainer.args
    every = args.steps_per_generation * trainer.num_iterations
    moves = args.gradient_accumulation_steps % every != 0
    return Scoring(
        engine=trainer.engine,
        old=(lambda: opened_for_scoring(trainer, trainer.model)) if moves or trainer.use_vllm else None,
        reference=(lambda: _opened_reference(trainer)) if trainer.beta != 0.0 else None,
    )


@contextmanager
def opened_for_scoring(trainer: "MultiImageGRPOTrainer", model: Any) -> Iterator[torch.nn.Module]:
    """Open a model for scoring without gradient: without checkpointing."""
    with disable_gradient_checkpointing(trainer.model, trainer.args.gradient_checkpointing_kwargs):
        yield model


@contextmanager
def _opened_reference(trainer: "MultiImageGRPOTrainer") -> Iterator[torch.nn.Module]:
    """The reference model; with adapters the policy without them, or with the copy that TRL made of trained ones."""
    if trainer.ref_model is not None:
        with opened_for_scoring(trainer, trainer.ref_model) as model:
            yield model
        return
    base = trainer.accelerator.unwrap_model(trainer.model)
    adapter = "ref" if "ref" in base.peft_config else None
    with use_adapter(base, adapter_name=adapter), opened_for_scoring(trainer, trainer.model) as model:
        yield model


def prompts_of(
    trainer: "MultiImageGRPOTrainer", keys: Sequence[int]
) -> tuple[dict[int, PreparedPrompt], dict[int, int]]:
    """Return the prepared prompts of a batch of keys, and how many completions each gets; bad rows are replaced."""
    return prepared_with(
        trainer.bad_rows,
        Counter(keys),
        prepare=trainer.prompt_of,
        rows_beside=trainer.tables.rows_beside,
        step=trainer.state.global_step,
    )


def verify(trainer: "MultiImageGRPOTrainer", prompts: Sequence[PreparedPrompt]) -> None:
    """Compare the model with itself as transformers runs it.

    Raises:
        VerificationError: they differ by more than rounding can explain.
    """
    with opened_for_scoring(trainer, trainer.model) as model, trainer.engine.autocast():
        verify_first_use(
            model,
            list(prompts),
            trainer.preparer,
            open_for_sampling=None if trainer.use_vllm else lambda: opened_for_generation(trainer),
            at_prefill=partial(_call_at_prefill, trainer) if trainer.own_rollouts is None else None,
        )


def _call_at_prefill(trainer: "MultiImageGRPOTrainer", compare: OnPrefill) -> None:
    """Compare at the next prefill, in the precision of the other passes."""

    def compared(*given: Any) -> None:
        with trainer.engine.autocast():
            compare(*given)

    trainer.engine.at_prefill = compared
