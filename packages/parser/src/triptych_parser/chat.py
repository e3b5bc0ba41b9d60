"""A bound prompt through the model's chat template, with look-alikes of special tokens in user text made harmless."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any, Literal

from triptych_parser.bind import BoundPrompt
from triptych_parser.calls import CALLS, check_calls
from triptych_parser.errors import MarkerError
from triptych_parser.expanders import ImageExpander
from triptych_parser.place import Place, place_in
from triptych_parser.prompt import ImageMarker

__all__ = ["ChatTemplateImages", "OnSpecial", "render_chat"]

Messages = list[dict[str, Any]]
OnSpecial = Literal["text", "error"]
ChatTemplateImages = Literal["exact", "inline", "template"]
_PRIVATE_USE = range(0xE002, 0xF900)
_PROBE_OPEN, _PROBE_CLOSE = "\ue000", "\ue001"
_SHOWN_PART = "'type': 'text'"


def render_chat(
    bound: BoundPrompt,
    *,
    renderer: Any,
    expander: ImageExpander | None,
    specials: re.Pattern[str],
    on_special: OnSpecial,
    chat_template_images: ChatTemplateImages,
    options: Mapping[str, Any],
) -> tuple[tuple[str, ...], str | None]:
    """Write the messages through `renderer.apply_chat_template` and cut the result at the image tokens.

    Returns the texts before, between and after the images, and the guard: a special token's text written by a user
    has it after its first character, so that it is not that token. It is None when no user text looks like one.

    Raises MarkerError when the template refuses the messages, does not write every image or moves one, or user text
    is refused.
    """
    messages, guard = _guard_messages(bound, bound.messages(), specials, on_special)
    if expander is None or not bound.prompt.num_markers:
        return (_text_alone(bound, messages, renderer=renderer, options=options, texts_first=expander is None),), guard
    if chat_template_images == "inline":
        messages = _inline(messages, expander)
    parts = tuple(_rendered(bound, messages, renderer=renderer, options=options).split(expander.template_token))
    if len(parts) - 1 != bound.prompt.num_markers:
        raise _place(bound).error(
            f"the chat template does not write {expander.template_token} once for every image",
            expected=bound.prompt.num_markers,
            got=len(parts) - 1,
            remedy="pass a chat_template that handles {'type': 'image'} parts",
        )
    if chat_template_images == "exact":
        _check_order(bound, messages, renderer=renderer, image=expander.template_token, options=options)
    check_calls(bound, messages, write=lambda marked: _rendered(bound, marked, renderer=renderer, options=options))
    return parts, guard


_OF_EXPRESSIONS = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError)


def _rendered(bound: BoundPrompt, messages: Messages, *, renderer: Any, options: Mapping[str, Any]) -> str:
    try:
        text: str = renderer.apply_chat_template(messages, tokenize=False, **options)
    except Exception as error:
        # A template's own `raise_exception` is one of Jinja's; the others are what its expressions can raise.
        if not type(error).__module__.startswith("jinja2") and not isinstance(error, _OF_EXPRESSIONS):
            raise
        raise _place(bound).error(
            f"the chat template refuses the messages, {' '.join(str(error).split())}",
            remedy=_remedy(messages),
        ) from error
    return text


def _remedy(messages: Messages) -> str:
    """What to do about messages that a template refuses."""
    calls = [call.get("function") or call for message in messages for call in message.get(CALLS) or ()]
    if any(isinstance(call.get("arguments"), str) for call in calls):
        return f"write the arguments of {CALLS} as a mapping, not as a text, or correct the roles and their order"
    return "correct the roles and their order, or pass a chat_template that takes them"


def _text_alone(
    bound: BoundPrompt, messages: Messages, *, renderer: Any, options: Mapping[str, Any], texts_first: bool
) -> str:
    """Render messages without images: as lists of parts, or as texts where the template takes only texts.

    Templates of models without images fail at a list, write it as Python shows it, or leave it out without a word. With
    `texts_first` such a model is meant, and messages that were texts are given as texts.
    """

    def write(shown: Messages) -> str:
        return _rendered(bound, shown, renderer=renderer, options=options)

    numbered = _numbered(messages)
    refused: MarkerError | None = None
    texts_first = texts_first and all(turn.content != "parts" for turn in bound.prompt.turns)
    for form in (_as_texts, _as_parts) if texts_first else (_as_parts, _as_texts):
        try:
            rendered = write(form(messages))
        except MarkerError as error:
            refused = error
            continue
        if (_is_unmistakable(messages) and _is_whole(rendered, messages)) or _is_whole(write(form(numbered)), numbered):
            check_calls(bound, form(messages), write=write)
            return rendered
    raise refused or _place(bound).error(
        "the chat template does not write the text of every system, user and tool message, neither as a list of parts "
        "nor as a text",
        remedy="pass a chat_template that writes message['content']",
    )


def _as_parts(messages: Messages) -> Messages:
    return messages


def _as_texts(messages: Messages) -> Messages:
    return [
        {**message, "content": "".join(part["text"] for part in message["content"])}
        if "content" in message
        else message
        for message in messages
    ]


def _is_unmistakable(messages: Messages) -> bool:
    """Whether every text is too long to be found in a template's own words by chance."""
    return all(len(part["text"].strip()) >= 24 for message in messages for part in message.get("content", ()))


def _is_whole(rendered: str, messages: Messages) -> bool:
    """Whether all texts but those of the model are in what a template wrote, and no list as Python shows it.

    Messages of the model may be cut on purpose: templates leave out the thoughts of earlier answers.
    """
    texts = [part["text"] for message in messages for part in message.get("content", ())]
    if rendered.count(_SHOWN_PART) > sum(text.count(_SHOWN_PART) for text in texts):
        return False
    return all(
        part["text"].strip() in rendered
        for message in messages
        if message["role"] in ("system", "user", "tool")
        for part in message.get("content", ())
    )


def _numbered(messages: Messages) -> Messages:
    """The messages with numbered stand-ins for their texts, which no template changes."""
    numbers = count()
    return [
        {
            **message,
            "content": [{**part, "text": f"{_PROBE_OPEN}{next(numbers)}{_PROBE_CLOSE}"} for part in message["content"]],
        }
        if "content" in message
        else message
        for message in messages
    ]


def _check_order(
    bound: BoundPrompt, messages: Messages, *, renderer: Any, image: str, options: Mapping[str, Any]
) -> None:
    """Render the template with numbered stand-ins for the texts: texts and images must keep their order."""
    expected: list[str] = []
    numbered: Messages = []
    for message in messages:
        copy = dict(message)
        if "content" in message:
            copy["content"] = [dict(part) for part in message["content"]]
            for part in copy["content"]:
                expected.append(image)
                if part["type"] == "text":
                    expected[-1] = part["text"] = f"{_PROBE_OPEN}{len(expected)}{_PROBE_CLOSE}"
        numbered.append(copy)
    rendered = _rendered(bound, numbered, renderer=renderer, options=options)
    if re.findall(f"{_PROBE_OPEN}\\d+{_PROBE_CLOSE}|{re.escape(image)}", rendered) != expected:
        raise _place(bound).error(
            "the chat template moves images away from where the prompt has them",
            remedy="pass chat_template_images='inline' to write them at their markers, or 'template' to accept it",
        )


def _guard_messages(
    bound: BoundPrompt, messages: Messages, specials: re.Pattern[str], on_special: OnSpecial
) -> tuple[Messages, str | None]:
    """Break look-alikes in everything the messages say; also the character used, None when nothing was broken.

    Raises MarkerError when they are to be refused, and for a role that contains one.
    """
    texts = list(_strings(messages))
    if not any(specials.search(text) for text in texts):
        return messages, None
    if on_special == "error" or any(specials.search(message["role"]) for message in messages):
        raise _refusal(bound, specials)
    guard = _unused_character(texts)

    def broken(text: str) -> str:
        while specials.search(text):  # breaking one look-alike can leave another that overlaps it
            text = specials.sub(lambda match: f"{match[0][0]}{guard}{match[0][1:]}", text)
        return text

    return _mapped(messages, broken), guard


def _strings(value: Any) -> Iterator[str]:
    """Every string in nested lists and mappings; keys are not looked at."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mapped(item, change) for item in value]
    return value


def _inline(messages: Messages, expander: ImageExpander) -> Messages:
    """Write the images into the text, for templates that would move them."""
    image = expander.inline_text
    inlined = []
    for message in messages:
        copy = dict(message)
        if "content" in message:
            text = "".join(part["text"] if part["type"] == "text" else image for part in message["content"])
            copy["content"] = [{"type": "text", "text": text}]
        inlined.append(copy)
    return inlined


def _unused_character(texts: list[str]) -> str:
    used = {char for text in texts for char in text}
    for code in _PRIVATE_USE:
        if chr(code) not in used:
            return chr(code)
    raise MarkerError("the prompt uses every private-use character", remedy="remove some of them")


def _place(bound: BoundPrompt) -> Place:
    return Place(source=bound.prompt.source, line=bound.prompt.line)


def _refusal(bound: BoundPrompt, specials: re.Pattern[str]) -> MarkerError:
    prompt = bound.prompt
    remedy = "remove it, or pass on_special='text' to read it as plain text"
    for index, turn in enumerate(prompt.turns):
        for part, raw in enumerate(turn.raw):
            if found := specials.search(raw):
                where = ImageMarker(part=part, start=found.start(), end=found.end())
                return place_in(prompt, index).error(
                    "the text contains a special token of the model", marker=where, remedy=remedy
                )
    if any(specials.search(turn.role) for turn in prompt.turns):
        remedy = "correct the role"
    return _place(bound).error("a role, label, annotation or other field contains a special token", remedy=remedy)
