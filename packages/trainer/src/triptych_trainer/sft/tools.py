"""Conversations as rollouts with the same tools would be written: their list, and the form of what they answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from triptych_data import Example
from triptych_data.prompt_settings import PromptSettings
from triptych_parser import ImageMarker, Text, Turn

from triptych_trainer.grpo.trl.conversations import writers_of
from triptych_trainer.trajectories.messages import RESPONSE_CLOSE, RESPONSE_OPEN
from triptych_trainer.trajectories.toolbox import toolbox

__all__ = ["Dress", "tool_dress"]

Dress = Callable[[Example], Example]


def tool_dress(
    processor: Any, settings: PromptSettings, tools: Sequence[Callable[..., Any]], *, end_ids: Collection[int]
) -> tuple[Dress | None, PromptSettings]:
    """Return what adds the tools of a run to its rows, and the settings by which they are then written, or None without
    tools.

    Raises:
        UsageError: the chat template takes no tools.
    """
    if not tools:
        return None, settings
    writers, settings = writers_of(processor, settings, {None: toolbox(tools)}, end_ids=end_ids)
    writer = writers[None]

    def dress(example: Example) -> Example:
        example = writer.dressed(example)
        return example if writer.mode == "tool" else _answered_by_user(example)

    return dress, settings


def _answered_by_user(example: Example) -> Example:
    """The example with the results of tools in messages of the user, for templates without messages of tools."""
    turns: list[Turn] = []
    for is_tool, run in groupby(example.prompt.prompt.turns, key=lambda turn: turn.role == "tool"):
        found = list(run)
        turns += [_joined(found)] if is_tool else found
    prompt = replace(example.prompt.prompt, turns=tuple(turns))
    return replace(example, prompt=replace(example.prompt, prompt=prompt))


def _joined(results: Sequence[Turn]) -> Turn:
    segments: list[Text | ImageMarker] = []
    for number, turn in enumerate(results):
        before = "\n" if number else ""
        segments += [Text(text=f"{before}{RESPONSE_OPEN}\n"), *turn.segments, Text(text=f"\n{RESPONSE_CLOSE}")]
    return Turn(role="user", segments=tuple(segments))
