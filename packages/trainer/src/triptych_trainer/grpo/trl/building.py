"""What a trainer is built from: its arguments, checked and completed, and its parts on TRL's models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import is_peft_model
from peft import PeftConfig
from triptych_data.options import check_template_arguments
from trl import GRPOConfig

from triptych_trainer.forward import install_hooks
from triptych_trainer.forward.attention_choice import known_choice
from triptych_trainer.grpo.engine import GroupEngine
from triptych_trainer.grpo.groups import check_groups_on_ranks
from triptych_trainer.grpo.trl.arguments import (
    check_argument,
    check_named_experts,
    default_arguments,
    default_processing_class,
    without_workers,
)
from triptych_trainer.grpo.trl.conversations import player, with_environment_reward
from triptych_trainer.grpo.trl.named_model import check_trains_quantized, with_named_adapters
from triptych_trainer.grpo.trl.own_rollouts import check_rollout_func
from triptych_trainer.grpo.trl.passes import shards_weights
from triptych_trainer.grpo.trl.reference import check_reference
from triptych_trainer.grpo.vllm import check_config, longest_prompt
from triptych_trainer.models.adapters import check_kinds, given_adapters
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.models.whole import warn_of_made_up_weights
from triptych_trainer.options.refusals import (
    check_ends,
    check_head_dtype,
    check_options,
    check_router_loss,
    check_slices,
    check_trainable,
    check_workers,
)
from triptych_trainer.options.vllm_refusals import check_kept, check_lag_on_ranks, check_sends_adapters
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.trajectories.environments import Environments
from triptych_trainer.trajectories.limits import Limits
from triptych_trainer.trajectories.play import Play
from triptych_trainer.trajectories.shown import tools_by_environment
from triptych_trainer.trajectories.turn_options import TurnOptions
from triptych_trainer.upstream.transformers_names import declare_router_logits
from triptych_trainer.upstream.trl_names import check_attributes, check_methods

if TYPE_CHECKING:
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer

__all__ = ["Given", "check_run", "complete", "engine_of", "player_of"]


_KINDS: Mapping[str, tuple[Any, str]] = {
    "model": ((str, torch.nn.Module), "the name of a model or a loaded model"),
    "tools": (Iterable, "a list of functions"),
    "environment_factory": ((Callable, Mapping), "a class or a mapping of classes"),
    "peft_config": (PeftConfig, "a configuration of PEFT"),
    "turns": (TurnOptions, "TurnOptions"),
}
"""What an argument may be, and how an error says it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """Contains the arguments of a trainer, checked, with what was left out filled in."""

    model: Any
    args: GRPOConfig
    rewards: list[Any]
    processing_class: Any
    tools: tuple[Callable[..., Any], ...]
    environments: Environments | None
    turns: TurnOptions
    rollout_func: Callable[..., Any] | None
    image_threads: int

    @property
    def has_tools(self) -> bool:
        """Whether tools or environments answer the model."""
        return bool(self.tools or self.environments)

    @property
    def has_turns(self) -> bool:
        """Whether rollouts may have several turns."""
        return bool(self.has_tools or self.rollout_func)


def complete(
    model: Any,
    reward_funcs: Any,
    *,
    args: GRPOConfig | None,
    processing_class: Any,
    preparer: PromptPreparer | None,
    tools: Any,
    rollout_func: Any,
    environment_factory: Any,
    turns: TurnOptions | None = None,
    peft_config: Any = None,
    quantization_config: Any = None,
) -> Given:
    """Check the arguments of a trainer before anything is loaded, and fill in what was left out.

    Raises:
        IncompatibleVersionError: the installed TRL differs from the tested one.
        UsageError: an option that this trainer cannot take; says what to pass instead.
    """
    check_methods()
    for name, value in (("model", model), ("tools", tools), ("peft_config", peft_config), ("turns", turns)):
        check_argument(name, value, *_KINDS[name])
    check_argument("environment_factory", environment_factory, *_KINDS["environment_factory"])
    args = args or default_arguments(model)
    check_options(args)
    check_template_arguments(args.chat_template_kwargs)
    if preparer is not None:
        check_workers(args)
    args, image_threads = without_workers(args)
    check_rollout_func(rollout_func, tools=tools, environment_factory=environment_factory)
    check_kept(args, rollout_func=rollout_func)
    turns = turns or TurnOptions()
    turns.check(has_tools=bool(tools or environment_factory), scale_rewards=args.scale_rewards)
    turns.calling_turns(args.max_tool_calling_iterations)  # refuses two numbers
    environments = None
    if environment_factory is not None:
        environments = Environments(environment_factory, seconds=turns.tool_seconds)
    args, rewards = with_environment_reward(args, reward_funcs, environments)
    check_kinds(given_adapters(model, peft_config), option="peft_config")
    folder, model = model, with_named_adapters(model, args, peft_config=peft_config)
    check_trains_quantized(model, args, peft_config=peft_config, quantization_config=quantization_config)
    if isinstance(model, str):
        check_named_experts(model, args)
    check_head_dtype(args, model, revision=(args.model_init_kwargs or {}).get("revision"))
    if processing_class is None:
        processing_class = default_processing_class(folder, args) if preparer is None else preparer.processor
    if isinstance(model, torch.nn.Module):
        declare_router_logits(model)
    return Given(
        model=model,
        args=args,
        rewards=rewards,
        processing_class=processing_class,
        tools=tuple(tools or ()),
        environments=environments,
        turns=turns,
        rollout_func=rollout_func,
        image_threads=image_threads,
    )


def check_run(trainer: MultiImageGRPOTrainer, *, group_sharing: str, completions_per_slice: int | None) -> None:
    """Check what can be checked only when TRL has loaded the model and set up the ranks.

    Raises:
        IncompatibleVersionError: TRL's trainer lacks an attribute that is needed.
        UsageError: nothing would be trained, a rank has no reference model, or an option does not fit the model or the
            ranks.
        GroupSplitError: a prompt's completions would be spread over ranks.
    """
    args = trainer.args
    check_attributes(trainer)
    if declare_router_logits(unwrap(trainer.model)):  # TRL loaded it by its name
        trainer.aux_loss_enabled = trainer.router_aux_loss_coef != 0
    check_trainable(trainer.model)
    if trainer.use_vllm:
        check_config(unwrap(trainer.model).config)
    warn_of_made_up_weights(trainer.model)
    check_reference(trainer)
    check_ends(trainer.eos_token_ids)
    check_router_loss(
        unwrap(trainer.model) if trainer.aux_loss_enabled else None, completions_per_slice=completions_per_slice
    )
    check_groups_on_ranks(
        per_device=args.per_device_train_batch_size,
        steps_per_generation=args.steps_per_generation,
        num_generations=args.num_generations,
        num_ranks=args.world_size,
    )
    lag = 0 if trainer.ahead is None else trainer.ahead.lag
    check_lag_on_ranks(lag, shards_weights=shards_weights(trainer))
    check_sends_adapters(
        use_vllm=trainer.use_vllm, has_adapters=is_peft_model(trainer.model), fsdp=trainer.is_fsdp_enabled
    )
    check_slices(args, completions_per_slice, shared=group_sharing != "off", sharded=shards_weights(trainer))


def attend_shared_prompts(trainer: MultiImageGRPOTrainer, choice: str) -> None:
    """Let the policy and the reference model attend shared prompts as ``shared_attention`` says.

    Raises:
        UsageError: it is another word.
    """
    for part in (trainer.model, trainer.ref_model):
        if part is not None:
            install_hooks(trainer.accelerator.unwrap_model(part), attention=known_choice(choice))


def engine_of(
    trainer: MultiImageGRPOTrainer, given: Given, *, group_sharing: str, completions_per_slice: int | None
) -> GroupEngine:
    """Return the engine of every pass of a trainer, with its hooks in the policy and in the reference model."""
    for part in (trainer.model, trainer.ref_model):
        if part is not None:
            install_hooks(trainer.accelerator.unwrap_model(part))
    trains_once = _trains_once(trainer) and completions_per_slice is None
    return GroupEngine(
        temperature=trainer.temperature,
        share_prompts=group_sharing != "off",
        completions_per_slice=completions_per_slice,
        autocast=trainer.accelerator.autocast,
        router_loss=trainer.aux_loss_enabled,
        later_images=given.has_turns,
        trains_once=trains_once,
        checkpoints_tower=trainer.args.gradient_checkpointing,
        keeps_prompts=trains_once and group_sharing == "auto" and not trainer.args.gradient_checkpointing,
    )


def _trains_once(trainer: MultiImageGRPOTrainer) -> bool:
    """Whether the model that samples a generation is trained on all of it in one pass, with the same weights."""
    passes = trainer.args.steps_per_generation * trainer.num_iterations
    return passes == 1 and not trainer.use_vllm and not trainer.is_deepspeed_enabled and trainer.args.world_size == 1


def player_of(trainer: MultiImageGRPOTrainer, given: Given, *, say: Callable[[str], object]) -> Play | None:
    """Return what plays rollouts of several turns, or None without tools and environments.

    Raises:
        UsageError: the model or its chat template takes no tools.
    """
    if not given.tools and given.environments is None:
        return None
    every = tools_by_environment(given.tools, given.environments)
    trainer.tools = list({tool.name: tool.call for own in every.values() for tool in own.values()}.values())
    return player(
        trainer.model,
        preparer=trainer.preparer,
        end_ids=[token for token in trainer.eos_token_ids if token is not None],
        tools=given.tools,
        environments=given.environments,
        row_of=lambda key, read: {**trainer.tables.columns(key, read), "prompt": trainer.tables.prompt(key, read)},
        limits=Limits(
            completion_tokens=trainer.args.max_completion_length,
            calling_turns=trainer.turns.calling_turns(trainer.args.max_tool_calling_iterations),
            kept_images=trainer.turns.kept_images,
            tool_seconds=trainer.turns.tool_seconds,
        ),
        say=say,
        engine_tokens=longest_prompt(trainer.vllm_generation) if trainer.use_vllm else None,
    )
