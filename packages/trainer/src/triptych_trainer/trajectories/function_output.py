"""What a ``rollout_func`` returned, checked and divided into one value for each completion."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from triptych_trainer.errors import UsageError

__all__ = ["Returned", "read_output"]

_ROUNDING = 1e-3
"""How far above 0 the logarithm of a probability may be by rounding, in half precision."""
REQUIRED = ("prompt_ids", "completion_ids", "logprobs")
OPTIONAL = ("env_mask", "images")


@dataclass(frozen=True, kw_only=True, slots=True)
class Returned:
    """Contains one completion of a ``rollout_func``."""

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    sampled: tuple[bool, ...]
    """For each token of the completion, whether the model sampled it; the others are those of an environment."""
    logps: tuple[float, ...] | None
    """Of each token as it was sampled, NaN where that is not known, 0 for those of the environment; None: of none."""
    images: tuple[Image.Image, ...]
    """The images whose placeholders are in the completion, in order."""
    fields: Mapping[str, Any]
    """What else the function returned for this completion: arguments of reward functions."""


def read_output(output: Any, *, names: Sequence[str], num_tokens: int, taken: Collection[str]) -> list[Returned]:
    """Divide the output into its completions; token ids have to be below ``num_tokens``.

    ``names`` are what errors call the completions: the row and the number of the rollout. ``taken`` are names under
    which reward functions get something else.

    Raises:
        UsageError: says what was expected of which entry, and what was returned.
    """
    if not isinstance(output, Mapping):
        raise UsageError(f"rollout_func: expected a dict with {_listed(REQUIRED)}, got {type(output).__name__}")
    if missing := [name for name in REQUIRED if name not in output]:
        raise UsageError(f"rollout_func: its dict lacks {_listed(missing)}; got {_listed(list(output)) or 'nothing'}")
    if hidden := [name for name in output if name in taken and name not in (*REQUIRED, *OPTIONAL)]:
        raise UsageError(
            f"rollout_func: under the name {hidden[0]} reward functions get something else; return it under another "
            "name"
        )
    count = len(names)
    columns = {name: _column(output, name, count=count) for name in (*REQUIRED, *OPTIONAL)}
    others = {name: _other(name, value, count=count) for name, value in output.items() if name not in columns}
    return [
        _returned(
            {name: None if values is None else values[k] for name, values in columns.items()},
            {name: values[k] for name, values in others.items()},
            where=f"{where}: rollout_func",
            num_tokens=num_tokens,
        )
        for k, where in enumerate(names)
    ]


def _returned(own: Mapping[str, Any], fields: Mapping[str, Any], *, where: str, num_tokens: int) -> Returned:
    prompt = _ids(own["prompt_ids"], where=f"{where}: prompt_ids", num_tokens=num_tokens)
    if not prompt:
        raise UsageError(f"{where}: prompt_ids is empty; return the tokens of the prompt that was sampled from")
    ids = _ids(own["completion_ids"], where=f"{where}: completion_ids", num_tokens=num_tokens)
    marks = [1] * len(ids) if own["env_mask"] is None else _numbers(own["env_mask"])
    if len(marks) != len(ids) or any(mark not in (0, 1) for mark in marks):
        raise UsageError(
            f"{where}: env_mask: expected a 1 for each of {len(ids)} tokens that the model sampled and a 0 for each "
            f"token of the environment, got {_shown(marks)}"
        )
    sampled = tuple(bool(mark) for mark in marks)
    logps = None if own["logprobs"] is None else _numbers(own["logprobs"])
    if logps is not None and (len(logps) != len(ids) or not all(_is_number(value) for value in logps)):
        raise UsageError(
            f"{where}: logprobs: expected one number for each of {len(ids)} tokens, or None for all completions, got "
            f"{_shown(logps)}"
        )
    for k, (value, is_sampled) in enumerate(zip(logps or (), sampled, strict=False)):
        if is_sampled and value is not None and not -math.inf < value <= _ROUNDING:
            raise UsageError(
                f"{where}: logprobs: expected the logarithm of each sampled token's probability, a finite number of at "
                f"most 0, or None where it is not known, got {value} for token {k} of the completion"
            )
    return Returned(
        prompt_ids=prompt,
        ids=ids,
        sampled=sampled,
        logps=None if logps is None else tuple(map(_logp, logps, sampled)),
        images=_images(own["images"], where=where),
        fields=fields,
    )


def _column(output: Mapping[str, Any], name: str, *, count: int) -> list[Any] | None:
    """One value for each completion; None where nothing was returned."""
    value = output.get(name)
    if value is None and name not in ("prompt_ids", "completion_ids"):
        return None
    values = _list(value)
    if len(values) != count:
        raise UsageError(
            f"rollout_func: {name}: expected a list with an entry for each of the {count} prompts that it was given (a "
            f"prompt is given once for each of its completions), got {_shown(values)}"
        )
    return values


def _other(name: str, value: Any, *, count: int) -> list[Any]:
    if not isinstance(value, list):
        return [value] * count
    if len(value) != count:
        raise UsageError(f"rollout_func: {name}: expected a list of {count} values or no list, got {len(value)} values")
    return value


def _ids(values: Any, *, where: str, num_tokens: int) -> tuple[int, ...]:
    ids = _numbers(values)
    wrong = next((token for token in ids if type(token) is not int or not 0 <= token < num_tokens), None)
    if wrong is not None:
        raise UsageError(f"{where}: expected token ids from 0 to {num_tokens - 1}, got {wrong!r}")
    return tuple(ids)


def _images(value: Any, *, where: str) -> tuple[Image.Image, ...]:
    images = [] if value is None else _list(value)
    if wrong := [image for image in images if not isinstance(image, Image.Image)]:
        raise UsageError(
            f"{where}: images: expected a list of PIL images or None, got {type(wrong[0]).__name__} in it; the images "
            "of the prompt are known, return only those that came after it"
        )
    return tuple(images)


def _list(value: Any) -> list[Any]:
    """A list, also of a tuple, a tensor or an array."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _numbers(value: Any) -> list[Any]:
    """A list in which numbers that came out of an array are those of Python."""
    return [one.tolist() if hasattr(one, "tolist") else one for one in _list(value)]


def _is_number(value: Any) -> bool:
    return value is None or type(value) in (int, float)


def _logp(value: float | None, sampled: bool) -> float:
    return 0.0 if not sampled else float("nan") if value is None else float(value)


def _shown(values: Sequence[Any]) -> str:
    return f"{len(values)}: {values!r}" if len(values) <= 4 else f"{len(values)}: {values[:4]!r} and so on"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(str, names))
