"""Which tokens of a conversation are trained: those of the assistant's turns, each with the token that ends it.

A turn of the assistant begins where a prompt of the turns before it would end, with the assistant's turn begun: exactly
there a model goes on by itself. So the conversation up to each such turn is written and tokenized alone, and its tokens
have to be the first ones of the whole conversation. Where they are not, the row is refused: the place of the turn would
be a guess. The turn ends with the first token that ends a message. Text that only looks like such a token never becomes
one (`triptych_parser.chat`). All that a turn says has to be among its tokens, because templates may leave out thoughts.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from triptych_data import DataError, Example
from triptych_data.budget import Size
from triptych_data.describe import describe
from triptych_data.model_tokens import ModelTokens
from triptych_data.prompt_settings import PromptSettings
from triptych_parser import ImageSpan, Text
from triptych_parser.expanders import expander_of

from triptych_trainer.sft.conversation import ASSISTANT, refused_conversation, until

__all__ = ["Labelled", "labelled", "read_labels", "whole_settings"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelled:
    """Contains the token ids of a conversation, and which of them are trained."""

    ids: tuple[int, ...]
    """Those of the conversation, with an end behind the last turn where the chat template leaves it to the model."""
    trained: tuple[bool, ...]
    turns: tuple[tuple[int, int], ...]
    """Where each turn of the assistant begins and ends among the ids."""


def whole_settings(settings: PromptSettings) -> PromptSettings:
    """Return the settings by which a whole conversation is written: no turn is begun behind it, and prompts have no
    limit.
    """
    return _begun(replace(settings, max_prompt_tokens=None), is_begun=False)


def read_labels(
    example: Example,
    sizes: Sequence[Size],
    *,
    model: ModelTokens,
    settings: PromptSettings,
    end_ids: Collection[int],
    max_tokens: int | None = None,
) -> Labelled:
    """Write a whole conversation and mark the tokens of the assistant, from the sizes of its images alone.

    Raises:
        DataError: as `labelled` does.
    """
    counted = describe(example, model=model, settings=whole_settings(settings), sizes=sizes)
    return labelled(
        example,
        ids=counted.ids,
        spans=counted.spans,
        sizes=sizes,
        model=model,
        settings=settings,
        end_ids=end_ids,
        max_tokens=max_tokens,
    )


def labelled(
    example: Example,
    *,
    ids: Sequence[int],
    spans: Sequence[ImageSpan],
    sizes: Sequence[Size],
    model: ModelTokens,
    settings: PromptSettings,
    end_ids: Collection[int],
    max_tokens: int | None = None,
) -> Labelled:
    """Mark the tokens of the assistant in a whole conversation (see `conversation`).

    Args:
        ids, spans: those of the conversation as `describe` writes it under `whole_settings`.
        sizes: (height, width) of its images as decoded.
        settings: those of a prompt.
        end_ids: the tokens that end a message of the model.
        max_tokens: the most tokens of the conversation, images included; nothing is ever cut.

    Raises:
        DataError: the row has too many tokens, or the turns of the assistant cannot be found exactly.
    """
    tokenizer = getattr(model.processor, "tokenizer", model.processor)
    whole = _Units.of(ids, spans)
    turns = example.prompt.prompt.turns
    asked = [number for number, turn in enumerate(turns) if turn.role == ASSISTANT]
    if len(asked) > 1 and expander_of(model.processor).finishes_prompt:
        raise refused_conversation(
            example,
            f"expected one turn of the assistant, because {type(model.processor).__name__} ends a prompt by itself "
            f"and takes nothing but the answer behind it, got {len(asked)}",
            "train on one turn of the assistant in each row, with the turns before it in the text of the user",
        )
    starts = [_start(example, turn, whole, model=model, settings=settings, sizes=sizes) for turn in asked]
    ids, trained, places = list(ids), [False] * len(ids), []
    for turn, start, limit in zip(asked, starts, [*starts[1:], len(ids)], strict=True):
        end = next((place + 1 for place in range(start, limit) if ids[place] in end_ids), None)
        if end is None and limit < len(ids):
            raise refused_conversation(
                example,
                f"expected a token that ends the assistant's turn {turn + 1}, got none from the chat template",
                "train on one turn of the assistant in each row, whose end is added, or pass another chat template",
            )
        if end is None:
            ids.append(_end(example, tokenizer, end_ids))
            trained.append(True)
        stop = limit if end is None else end
        trained[start:stop] = [True] * (stop - start)
        places.append((start, stop if end is not None else stop + 1))
        _check_said(example, turn, tokenizer.decode(ids[start:stop], skip_special_tokens=False))
    for span in spans:  # an image in a turn of the assistant
        trained[span.start : span.start + span.length] = [False] * span.length
    if max_tokens is not None and len(ids) > max_tokens:
        raise _too_long(example, len(ids), sum(span.num_features for span in spans), max_tokens)
    return Labelled(ids=tuple(ids), trained=tuple(trained), turns=tuple(places))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Units:
    """Tokens with every image as one: how large an image is may depend on the others of its prompt."""

    units: tuple[int, ...]
    """Token ids, and for each image its number below zero."""
    places: tuple[int, ...]
    """Where each of them begins among the tokens, and where the last one ends."""

    @classmethod
    def of(cls, ids: Sequence[int], spans: Sequence[ImageSpan]) -> _Units:
        units: list[int] = []
        places: list[int] = []
        place = 0
        for span in spans:
            units += [*ids[place : span.start], -1 - span.image]
            places += [*range(place, span.start), span.start]
            place = span.start + span.length
        return cls(units=(*units, *ids[place:]), places=(*places, *range(place, len(ids) + 1)))


def _start(
    example: Example,
    turn: int,
    whole: _Units,
    *,
    model: ModelTokens,
    settings: PromptSettings,
    sizes: Sequence[Size],
) -> int:
    """Where the assistant's turn begins among the tokens of the whole conversation."""
    before = describe(until(example, turn), model=model, settings=_begun(settings, is_begun=True), sizes=sizes)
    if turn == next(k for k, one in enumerate(example.prompt.prompt.turns) if one.role == ASSISTANT):
        before.accepted()  # --max_prompt_tokens is about the prompt
    prefix = _Units.of(before.ids, before.spans).units
    if whole.units[: len(prefix)] != prefix:
        raise refused_conversation(
            example,
            f"expected the chat template to write the assistant's turn {turn + 1} behind the prompt that a model goes "
            f"on from, got other tokens from token {_first_difference(prefix, whole.units)} on",
            "if the template begins thoughts, write them into the turn or pass --chat_template_kwargs "
            "'{\"enable_thinking\": false}'; else remove white space at the beginning of the turn, or train on one "
            "turn of the assistant in each row",
        )
    return whole.places[len(prefix)]


def _begun(settings: PromptSettings, *, is_begun: bool) -> PromptSettings:
    kwargs: Mapping[str, Any] = {**settings.chat_template_kwargs, "add_generation_prompt": is_begun}
    return replace(settings, chat_template_kwargs=kwargs)


def _first_difference(prefix: Sequence[int], whole: Sequence[int]) -> int:
    pairs = enumerate(zip(prefix, whole, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(prefix), len(whole)))


def _end(example: Example, tokenizer: Any, end_ids: Collection[int]) -> int:
    """The token that ends the last message, for templates that leave it to the model."""
    end = tokenizer.eos_token_id
    if end is None or end not in end_ids:
        raise refused_conversation(
            example,
            "expected a token that ends the last turn, got none from the chat template and the tokenizer",
            "set eos_token in tokenizer_config.json to a token that ends generation",
        )
    return int(end)


def _check_said(example: Example, turn: int, written: str) -> None:
    """Every text of a turn is in what its tokens spell; white space and forms of one character are not compared."""
    said = example.prompt.prompt.turns[turn]
    thoughts = said.extra.get("reasoning_content")
    texts = [segment.text for segment in said.segments if isinstance(segment, Text)]
    for text in [*([thoughts] if isinstance(thoughts, str) else []), *texts]:
        if _plain(text) not in _plain(written):
            raise refused_conversation(
                example,
                f"expected the tokens of the assistant's turn {turn + 1} to spell all of its text, got "
                f"{written[:80]!r} for {text[:80]!r}",
                "pass a chat template that keeps the text of every turn (some leave out earlier thoughts), train on "
                "one turn of the assistant in each row, or remove characters that the tokenizer does not know",
            )


def _plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())


def _too_long(example: Example, num_tokens: int, num_image_tokens: int, limit: int) -> DataError:
    count = len(example.images)
    return refused_conversation(
        example,
        f"expected at most {limit} tokens, got {num_tokens}, {num_image_tokens} of them for {count} "
        f"image{'s' * (count != 1)}",
        "raise --max_length, lower --max_pixels or --max_prompt_image_tokens, or leave the row out with --on_bad skip",
    )
