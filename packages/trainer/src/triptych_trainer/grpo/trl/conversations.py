"""Tools and environments as TRL's trainer takes them, ready to be played."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trl.chat_template_utils import add_response_schema, get_training_chat_template, parse_response

from triptych_trainer.errors import UsageError
from triptych_trainer.forward.turn_cache import why_not_kept
from triptych_trainer.grpo.sampler import one_message
from triptych_trainer.models.families import family_of
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.trajectories.calls import CALL_OPEN, read_calls
from triptych_trainer.trajectories.environments import Environments, reward_of
from triptych_trainer.trajectories.play import Limits, Play
from triptych_trainer.trajectories.shown import every_tool
from triptych_trainer.trajectories.toolbox import Tool, toolbox
from triptych_trainer.trajectories.writer import TurnWriter, turn_writer

if TYPE_CHECKING:
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer

__all__ = ["check_conversation_options", "message_reader", "player", "schemas_of", "with_environment_reward"]


def check_conversation_options(*, tools: Any, environment_factory: Any, rollout_func: Any, use_vllm: bool) -> None:
    """Check what a trainer is given for rollouts of several turns, before anything is loaded.

    Raises:
        UsageError: says what cannot be kept, and what to do instead.
    """
    if rollout_func is not None:
        raise UsageError(
            "rollout_func: a loop of your own cannot say where the images of its turns belong; pass tools=[...] or "
            "environment_factory=, whose loop is Triptych's"
        )
    if isinstance(environment_factory, Mapping):
        raise UsageError(
            f"environment_factory: expected one environment, got {len(environment_factory)} by name; pass one whose "
            "reset(**row) reads from the row which task it is"
        )
    if (tools or environment_factory) and use_vllm:
        raise UsageError(
            "--use_vllm: rollouts with tools are sampled by the trainer's own model; leave it out, or the tools"
        )


def with_environment_reward(args: Any, reward_funcs: Any, environments: Environments | None) -> tuple[Any, list[Any]]:
    """The options and reward functions of a run with what its environment says of a rollout, at weight 1."""
    rewards = list(reward_funcs) if isinstance(reward_funcs, (list, tuple)) else [reward_funcs]
    rewards = [reward for reward in rewards if reward is not None]
    if environments is None or not environments.rewards:
        return args, rewards
    if args.reward_weights is not None:
        args = copy.copy(args)  # the caller's own options stay as they are
        args.reward_weights = [*args.reward_weights, 1.0]
    return args, [*rewards, reward_of(environments.kind)]


def player(
    trainer: MultiImageGRPOTrainer,
    *,
    tools: Sequence[Callable[..., Any]],
    environments: Environments | None,
    shards_weights: bool,
    tool_seconds: float,
    say: Callable[[str], object],
) -> Play:
    """What plays the rollouts of a trainer; its preparer writes the tools into prompts from now on.

    Raises:
        UsageError: the model or its chat template takes no tools, or the weights are sharded.
    """
    base = unwrap(trainer.model)
    family = family_of(base)
    if family.no_later_images is not None:
        raise UsageError(f"tools: {type(base).__name__} takes no images behind its prompt: {family.no_later_images}")
    if shards_weights:
        raise UsageError(
            "tools: rollouts have different numbers of turns, but ranks that share weights (FSDP, ZeRO-3) have to "
            "sample in step; use DDP or ZeRO-2"
        )
    schemas = schemas_of(every_tool(tools, environments))
    writer = _writer(trainer, schemas)
    trainer.preparer.settings = writer.settings
    if (reason := why_not_kept(family, base)) is not None and not trainer.use_vllm:
        say(
            f"rollouts of {type(base).__name__} prefill their whole history again at each turn, because {reason}; "
            "slower, but equally correct (tools/prefilled_again counts them)"
        )
    inner = family.vision_language_model(base)
    return Play(
        writer=writer,
        schemas=schemas,
        preparer=trainer.preparer,
        read=message_reader(trainer._tokenizer, schemas, mode=writer.mode),
        tools=toolbox(tools),
        environments=environments,
        row_of=lambda key: {**trainer.tables.columns(key), "prompt": trainer.tables.prompt(key)},
        num_rows=lambda image: family.num_rows(inner, image),
        limits=Limits(
            completion_tokens=trainer.args.max_completion_length,
            context_tokens=getattr(base.config.get_text_config(), "max_position_embeddings", None),
            calling_turns=trainer.turns.calling_turns(trainer.args.max_tool_calling_iterations),
            kept_images=trainer.turns.kept_images,
            tool_seconds=tool_seconds,
        ),
        say=say,
    )


def schemas_of(tools: Mapping[str, Tool]) -> list[Mapping[str, Any]]:
    """What the model is told of its tools."""
    return [tool.schema for tool in tools.values()]


def _writer(trainer: MultiImageGRPOTrainer, schemas: Sequence[Mapping[str, Any]]) -> TurnWriter:
    """Find out how the chat template takes tools; where it rewrites earlier turns, by the form that TRL trains with."""
    tokenizer, processor = trainer._tokenizer, trainer.preparer.processor
    had_template = getattr(tokenizer, "response_template", None) is not None
    if not had_template:
        try:
            add_response_schema(processor)
        except ValueError:  # TRL does not know this chat template
            tokenizer.response_template = None
    settings = trainer.preparer.settings
    common: dict[str, Any] = {
        "schemas": schemas,
        "end_ids": [token for token in trainer.eos_token_ids if token is not None],
        "reads_calls": getattr(tokenizer, "response_template", None) is not None,
    }
    try:
        found = turn_writer(processor, settings=settings, **common)
    except UsageError:
        template = _training_template(processor)
        if template is None:
            raise
        kept = {**settings.chat_template_kwargs, "chat_template": template}
        found = turn_writer(processor, settings=_replaced(settings, kept), **common)
    if found.mode == "user" and not had_template:
        tokenizer.response_template = None
    return found


def _training_template(processor: Any) -> str | None:
    try:
        template: str | None = get_training_chat_template(processor)
    except ValueError:
        return None
    return template


def _replaced(settings: Any, kwargs: Mapping[str, Any]) -> Any:
    return replace(settings, chat_template_kwargs=kwargs)


def message_reader(
    tokenizer: Any, schemas: Sequence[Mapping[str, Any]], *, mode: str
) -> Callable[[Sequence[int], Sequence[int]], Mapping[str, Any]]:
    """Read a message by the tokenizer's response template; in `user` mode first as a text with calls in JSON."""
    as_text = one_message(tokenizer)
    has_template = getattr(tokenizer, "response_template", None) is not None

    def read(before: Sequence[int], ids: Sequence[int]) -> Mapping[str, Any]:
        calls = read_calls(tokenizer.decode(list(ids), skip_special_tokens=False)) if mode == "user" else []
        if has_template and not calls:
            found: Mapping[str, Any] = parse_response(tokenizer, list(ids), prefix=list(before), tools=list(schemas))
            return found
        (message,) = as_text(None, ids)  # type: ignore[arg-type]
        if not calls:
            return message
        said = message["content"].partition(CALL_OPEN)[0].rstrip()
        return {"role": "assistant", "content": said, "tool_calls": calls}

    return read
