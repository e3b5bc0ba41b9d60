"""Tools and environments as TRL's trainer takes them, ready to be played."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from triptych_data import Example
from triptych_data.formats.record import shown
from triptych_data.prompt_settings import PromptSettings

from triptych_trainer.errors import UsageError
from triptych_trainer.forward.turn_cache import why_not_kept
from triptych_trainer.grpo.sampler import one_message
from triptych_trainer.grpo.trl.responses import read_response
from triptych_trainer.models.families import family_of
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.trajectories.calls import read_calls, without_calls
from triptych_trainer.trajectories.environments import Environments, rewards_of
from triptych_trainer.trajectories.limits import Limits
from triptych_trainer.trajectories.play import Play
from triptych_trainer.trajectories.shown import tools_by_environment
from triptych_trainer.trajectories.toolbox import Tool, toolbox
from triptych_trainer.trajectories.writer import TurnWriter, turn_writer
from triptych_trainer.upstream.trl_names import add_response_schema, get_training_chat_template

__all__ = ["message_reader", "player", "with_environment_reward", "writers_of"]


def with_environment_reward(args: Any, reward_funcs: Any, environments: Environments | None) -> tuple[Any, list[Any]]:
    """Return the options and reward functions of a run with what its environment says of a rollout, at weight 1.

    Raises:
        UsageError: there is neither a reward function nor an environment that says it, or something else than a reward
            is given.
    """
    rewards = list(reward_funcs) if isinstance(reward_funcs, (list, tuple)) else [reward_funcs]
    rewards = [reward for reward in rewards if reward is not None]
    for reward in rewards:
        if not (callable(reward) or isinstance(reward, str)):
            raise UsageError(
                f"reward_funcs: expected functions, models or names of models, got {shown(reward)}; pass a function "
                "that takes completions and returns a number for each"
            )
    own = [] if environments is None else rewards_of(environments)
    if environments is not None and not own and not rewards:
        kinds = " and ".join(kind.__name__ for kind in environments.kinds)
        raise UsageError(
            f"--reward: nothing says what a rollout was worth: {kinds} has no `get_reward`, and no reward function is "
            "given; add one of them"
        )
    if own and args.reward_weights is not None:
        args = copy.copy(args)  # the caller's own options stay as they are
        args.reward_weights = [*args.reward_weights, *[1.0] * len(own)]
    return args, [*rewards, *own]


def player(
    model: Any,
    *,
    preparer: PromptPreparer,
    end_ids: Collection[int],
    tools: Sequence[Callable[..., Any]],
    environments: Environments | None,
    row_of: Callable[[int, Example | None], Mapping[str, Any]],
    limits: Limits,
    say: Callable[[str], object],
    engine_tokens: int | None = None,
) -> Play:
    """Return what plays the rollouts of a model; from now on its preparer writes prompts as the tools need them.

    Args:
        end_ids: tokens that end a message of the model.
        row_of: the columns of a key's row, which may have been read before, for ``reset`` and for the choice of an
            environment.
        engine_tokens: how many tokens the engine next to the trainer takes; None where the model itself samples.

    Raises:
        UsageError: the model or its chat template takes no tools.
    """
    base = unwrap(model)
    family = family_of(base)
    if family.no_later_images is not None:
        raise UsageError(
            f"--tools, --environment: {type(base).__name__} takes no images after its prompt: {family.no_later_images}"
        )
    writers, preparer.settings = writers_of(
        preparer.processor,
        preparer.settings,
        tools_by_environment(tools, environments),
        end_ids=end_ids,
        writes_short=engine_tokens is not None,
    )
    if engine_tokens is None and (reason := why_not_kept(family, base)) is not None:
        say(
            f"rollouts of {type(base).__name__} prefill their whole history again at each turn, because {reason}; "
            "this is slower, but equally correct (tools/prefilled_again counts them)"
        )
    inner = family.vision_language_model(base)
    longest = [getattr(base.config.get_text_config(), "max_position_embeddings", None), engine_tokens]
    return Play(
        writers=writers,
        preparer=preparer,
        read=message_reader(tokenizer_of(preparer.processor)),
        tools=toolbox(tools),
        environments=environments,
        row_of=row_of,
        num_rows=lambda image: family.num_rows(inner, image),
        limits=replace(limits, context_tokens=min((n for n in longest if n is not None), default=None)),
        say=say,
    )


def tokenizer_of(processor: Any) -> Any:
    """Return the tokenizer of a processor, or the tokenizer itself."""
    return getattr(processor, "tokenizer", processor)


def writers_of(
    processor: Any,
    settings: PromptSettings,
    tools: Mapping[str | None, Mapping[str, Tool]],
    *,
    end_ids: Collection[int],
    writes_short: bool = False,
) -> tuple[dict[str | None, TurnWriter], PromptSettings]:
    """Find out how the chat template takes the tools of each environment; where it rewrites earlier turns, by the form
    that TRL trains with. The tokenizer gets what reads calls; returned are also the settings with that form.

    Raises:
        UsageError: the template takes no tools.
    """
    tokenizer = tokenizer_of(processor)
    had_template = getattr(tokenizer, "response_template", None) is not None
    if not had_template:
        try:
            add_response_schema(processor)
        except ValueError:  # TRL does not know this chat template
            tokenizer.response_template = None
    reads_calls = getattr(tokenizer, "response_template", None) is not None

    def found(settings: PromptSettings) -> dict[str | None, TurnWriter]:
        return {
            name: turn_writer(
                processor,
                settings=settings,
                schemas=[tool.schema for tool in own.values()],
                end_ids=end_ids,
                reads_calls=reads_calls,
                writes_short=writes_short,
            )
            for name, own in tools.items()
        }

    try:
        writers = found(settings)
    except UsageError:
        template = _training_template(processor)
        if template is None:
            raise
        settings = replace(settings, chat_template_kwargs={**settings.chat_template_kwargs, "chat_template": template})
        writers = found(settings)
    if {writer.mode for writer in writers.values()} == {"user"} and not had_template:
        tokenizer.response_template = None
    return writers, settings


def _training_template(processor: Any) -> str | None:
    try:
        template: str | None = get_training_chat_template(processor)
    except ValueError:
        return None
    return template


def message_reader(
    tokenizer: Any,
) -> Callable[[TurnWriter, Sequence[int], Sequence[int]], Mapping[str, Any]]:
    """Read a message by the tokenizer's response template; in `user` mode first as a text with calls in JSON."""
    as_text = one_message(tokenizer)

    def read(writer: TurnWriter, before: Sequence[int], ids: Sequence[int]) -> Mapping[str, Any]:
        calls = read_calls(tokenizer.decode(list(ids), skip_special_tokens=False)) if writer.mode == "user" else []
        if getattr(tokenizer, "response_template", None) is not None and not calls:
            schemas = [dict(schema) for schema in writer.schemas]
            return read_response(tokenizer, ids, prefix=before, tools=schemas)
        (message,) = as_text(None, ids)  # type: ignore[arg-type]
        if not calls:
            return message
        return {"role": "assistant", "content": without_calls(message["content"]), "tool_calls": calls}

    return read
