"""What one optimizer step of a run consists of: prompts, completions, passes, and how many steps there are."""

from __future__ import annotations

from dataclasses import dataclass

from trl import GRPOConfig

from triptych_trainer.grpo.groups import check_groups_on_ranks

__all__ = ["StepShape", "step_shape"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepShape:
    """Contains the arithmetic of a step; counts are those of one rank, unless they say otherwise."""

    num_ranks: int
    prompts_per_generation: int
    """Prompts that one generation prefills."""
    group_sizes: tuple[int, ...]
    """Completions of each prompt of a policy micro-batch."""
    num_generations: int
    micro_batches_per_step: int
    generations_per_step: float
    scored_per_step: float
    """Micro-batches scored without gradient: old policy, reference, or both."""
    completion_tokens: int
    """All tokens after a prompt, at most."""
    has_gradients_while_generating: bool
    """Whether a generation falls between two micro-batches of one optimizer step."""
    num_steps: int
    prompts_per_step: float
    """Over all ranks."""
    arrived_tokens: int = 0
    """Of the completion tokens, those of results and images of tools, which are not sampled."""
    arrived_images: int = 0
    """Images that arrive in a rollout."""


def step_shape(args: GRPOConfig, *, num_rows: int, num_ranks: int = 1, sized_for_ranks: bool = False) -> StepShape:
    """Read a configuration.

    ``sized_for_ranks``: ``--generation_batch_size`` was given and is that of all ranks.

    Raises:
        GroupSplitError: a prompt's completions would be spread over ranks.
    """
    batch, group = args.per_device_train_batch_size, args.num_generations
    cycle = args.steps_per_generation // num_ranks if sized_for_ranks else args.steps_per_generation
    cycle = max(cycle, 1)
    check_groups_on_ranks(per_device=batch, steps_per_generation=cycle, num_generations=group, num_ranks=num_ranks)
    every = cycle * args.num_iterations
    micro = args.gradient_accumulation_steps
    old = micro % every != 0 or (args.use_vllm and args.vllm_importance_sampling_correction)
    whole, rest = divmod(batch, group)
    prompts = max(1, batch * cycle // group)
    per_step = micro / args.num_iterations * batch / group * num_ranks
    per_epoch = num_rows // max(prompts * num_ranks, 1) * every // micro
    return StepShape(
        num_ranks=num_ranks,
        prompts_per_generation=prompts,
        group_sizes=(*[group] * whole, *([rest] if rest else [])),
        num_generations=group,
        micro_batches_per_step=micro,
        generations_per_step=micro / every,
        scored_per_step=micro / args.num_iterations * (int(old) + int(args.beta != 0.0)),
        completion_tokens=args.max_completion_length,
        has_gradients_while_generating=every % micro != 0,
        num_steps=args.max_steps if args.max_steps > 0 else max(1, round(per_epoch * args.num_train_epochs)),
        prompts_per_step=per_step,
    )
