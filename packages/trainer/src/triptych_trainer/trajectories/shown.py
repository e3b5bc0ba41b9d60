"""Tools and environments before a run: their descriptions for the model, and the beginning of a row's rollouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from triptych_data import DataError, Example

from triptych_trainer.errors import UsageError
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.trajectories.environments import Environments
from triptych_trainer.trajectories.messages import with_observation
from triptych_trainer.trajectories.toolbox import Tool, toolbox

__all__ = ["begun_with", "tool_in_words", "tools_by_environment"]


def tools_by_environment(
    tools: Sequence[Callable[..., Any]], environments: Environments | None
) -> dict[str | None, dict[str, Tool]]:
    """Return all tools that a model may call, by name, for each environment; they are under None if all rows have the
    same tools.

    Raises:
        UsageError: two have one name.
    """
    own = toolbox(tools)
    if environments is None:
        return {None: own}
    found: dict[str | None, dict[str, Tool]] = {}
    for environment in environments.names or (None,):
        first = environments.take(1, environment)[0]
        methods = environments.tools(first)
        for name in own:
            if name in methods:
                raise UsageError(f"--tools: {name!r} is also a method of {type(first).__name__}; rename it")
        found[environment] = {**own, **methods}
    return found


def tool_in_words(tool: Tool) -> Iterator[str]:
    """Yield the lines of the description of a tool that the model gets."""
    function = tool.schema["function"]
    yield f"{tool.name}: {' '.join(str(function.get('description', '')).split())}"
    parameters: Mapping[str, Any] = function.get("parameters", {})
    required = parameters.get("required", ())
    for name, schema in parameters.get("properties", {}).items():
        kind = _kind(schema) + ("" if name in required else ", may be left out")
        yield f"  {name} ({kind}): {' '.join(str(schema.get('description', '')).split())}"
    if tool.images_as is not None:
        yield f"  {tool.images_as}: gets the images of the rollout; the model does not see this parameter"


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    kind = schema.get("type", "anything")
    name = " or ".join(kind) if isinstance(kind, list) else str(kind)
    items = schema.get("items")
    return f"{name} of {_kind(items)}" if isinstance(items, Mapping) and items else name


def begun_with(environments: Environments) -> Callable[[Example], Example]:
    """Add to a row what its environment shows first, at the end of its last user message.

    What it returns raises DataError, with the row, where ``reset`` fails or shows what no prompt can contain.
    """

    def begun(example: Example) -> Example:
        table = ExampleTable([example])
        row = {**table.columns(0), "prompt": table.prompt(0)}
        environment = environments.take(1, environments.name_of(row, where=example.source))
        try:
            seen = environments.reset(environment, row, where=example.source)
            return with_observation(example, seen) if seen else example
        except Exception as error:  # an environment is the user's own code, and may fail in any way
            reason = getattr(error, "reason", "") or " ".join(str(error).split()) or type(error).__name__
            raise DataError(
                f"`reset` of {type(environment[0]).__name__} failed: {reason.removeprefix(f'{example.source}: ')}",
                source=example.source,
                id=None if example.id == example.source else example.id,
                remedy="correct the environment, or the columns of the row that it reads",
                kind="environment",
            ) from error

    return begun
