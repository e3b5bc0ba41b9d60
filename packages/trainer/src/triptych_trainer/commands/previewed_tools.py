"""Tools in a preview: the list that the model sees, in the message that contains it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers import GenerationConfig
from triptych_data import Example
from triptych_data.preview.row import WithTools
from triptych_data.prompt_settings import PromptSettings

from triptych_trainer.grpo.sampler import end_ids_of
from triptych_trainer.grpo.trl.conversations import writers_of
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.trajectories.environments import Environments
from triptych_trainer.trajectories.messages import described
from triptych_trainer.trajectories.shown import tools_by_environment

__all__ = ["previewed_tools"]


def previewed_tools(
    tools: Sequence[Callable[..., Any]],
    environments: Environments | None,
    *,
    processor: Any,
    settings: PromptSettings,
    model: str | None,
    revision: str | None,
) -> tuple[Callable[[Example], WithTools | None], PromptSettings]:
    """Return what adds the list of tools to a row, and the settings with which a run then writes prompts.

    Without a model (``processor`` is None) it is not known which message contains the list.

    Raises:
        UsageError: the chat template takes no tools.
    """
    known = tools_by_environment(tools, environments)
    schemas = {name: [dict(tool.schema) for tool in own.values()] for name, own in known.items()}
    writers: Mapping[str | None, Any] = {}
    if processor is not None:
        writers, settings = writers_of(processor, settings, known, end_ids=_end_ids(processor, model, revision))

    def with_tools(example: Example) -> WithTools | None:
        columns = ExampleTable([example]).columns(0)
        name = None if environments is None else environments.name_of(columns, where=example.source)
        if not schemas[name]:
            return None
        writer = writers.get(name)
        if writer is not None and writer.mode == "user":
            return WithTools(example=writer.dressed(example), listed=described(schemas[name]), message=writer.tools_in)
        lines = "\n".join(json.dumps(schema, ensure_ascii=False) for schema in schemas[name])
        return WithTools(example=example if writer is None else writer.dressed(example), listed=lines, message="tools")

    return with_tools, settings


def _end_ids(processor: Any, model: str | None, revision: str | None) -> list[int]:
    """The tokens that end a message: those of the model's generation config, and that of the tokenizer."""
    own = getattr(processor, "tokenizer", processor).eos_token_id
    try:
        found = end_ids_of(GenerationConfig.from_pretrained(model, revision=revision))
    except OSError:  # a folder without one
        found = frozenset()
    return [*found, own]
