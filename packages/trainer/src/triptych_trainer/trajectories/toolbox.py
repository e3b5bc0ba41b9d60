"""Tools: functions that the model may call, with their descriptions for the model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from PIL import Image
from transformers.utils import get_json_schema

from triptych_trainer.errors import UsageError
from triptych_trainer.rollouts.rollout import BoxFrame
from triptych_trainer.trajectories.images import RolloutImages

__all__ = ["Tool", "tool_of", "toolbox"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """Contains a function, and its description for the model."""

    name: str
    call: Callable[..., Any]
    schema: Mapping[str, Any]
    """What the model reads, as a chat template takes it: name, description and parameters."""
    images_as: str | None = None
    """The parameter that gets the rollout's images, if there is one; the model does not see it."""
    box_frame: BoxFrame | None = None
    """What the numbers of its `box`, or of its `x` and `y`, count: the function's own attribute of this name."""


def toolbox(functions: Sequence[Callable[..., Any]]) -> dict[str, Tool]:
    """Return the tools by name.

    Raises:
        UsageError: two have one name, or one cannot be described.
    """
    found: dict[str, Tool] = {}
    for function in functions:
        tool = tool_of(function)
        if tool.name in found:
            raise UsageError(f"--tools: two of them are named {tool.name!r}; rename one")
        found[tool.name] = tool
    return found


def tool_of(function: Callable[..., Any]) -> Tool:
    """Describe a function by its name, its type hints and its docstring.

    Raises:
        UsageError: the function has no name, hint or docstring to describe it by.
    """
    name = getattr(function, "__name__", None)
    if not callable(function) or name is None:
        raise UsageError(f"--tools: expected functions, got {function!r}; pass a function, or a method of an object")
    try:
        hints = get_type_hints(function)
        images_as = next((key for key, hint in hints.items() if _is_images(hint) and key != "return"), None)
        _check_parameters(name, function, hints)
        schema = get_json_schema(_as_the_model_sees_it(function, hints, hidden=images_as))
    except UsageError:
        raise
    except Exception as error:  # the functions are the user's own, and their hints may fail in any way
        raise UsageError(
            f"the tool {name} cannot be described to the model ({' '.join(str(error).split())}); give every parameter "
            "a type hint and a line under `Args:` in a docstring in Google's style"
        ) from error
    frame = getattr(function, "box_frame", None)
    if frame is not None and frame not in get_args(BoxFrame):
        raise UsageError(f"the tool {name}.box_frame: expected one of {', '.join(get_args(BoxFrame))}, got {frame!r}")
    return Tool(name=name, call=function, schema=schema, images_as=images_as, box_frame=frame)


def _is_images(hint: Any) -> bool:
    return hint is RolloutImages or RolloutImages in get_args(hint)


def _check_parameters(name: str, function: Callable[..., Any], hints: Mapping[str, Any]) -> None:
    """Refuse parameters that no call can fill: a call gives JSON values by name."""
    for key, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise UsageError(
                f"the tool {name}: the parameter {str(parameter).split(':')[0]} cannot be given by name, as "
                "a model gives its arguments; write one parameter with a name for each argument"
            )
        hint = hints.get(key)
        if any(isinstance(one, type) and issubclass(one, Image.Image) for one in (hint, *get_args(hint))):
            raise UsageError(
                f"the tool {name}: a model cannot write an image for the parameter {key}; let it write a number, and "
                "take the picture from a parameter of type RolloutImages, as in `images[number].picture`"
            )


def _as_the_model_sees_it(function: Callable[..., Any], hints: Mapping[str, Any], *, hidden: str | None) -> Any:
    """A function with the same name, docstring and parameters, but without the hidden parameter."""
    if hidden is None:
        return function
    signature = inspect.signature(function)

    def shown() -> None: ...

    shown.__name__ = function.__name__
    shown.__doc__ = inspect.getdoc(function)
    shown.__annotations__ = {key: hint for key, hint in hints.items() if key != hidden}
    parameters = [one for key, one in signature.parameters.items() if key != hidden]
    shown.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return shown
