"""Messages as the tokenizer's response template reads them, without what its parser does in silence.

The parser of transformers takes from a call what it knows and drops the rest: a key that is there twice, a parameter
without its closing tag, a value without a name. Such a call would be done with other arguments than the model wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triptych_trainer.rewards.completion import OPEN_REASONING, REASONING_KEYS, THINK_CLOSE
from triptych_trainer.trajectories.calls import CALL_BEGINNINGS, UNREAD, once_each
from triptych_trainer.upstream.transformers_names import ResponseParser
from triptych_trainer.upstream.trl_names import parse_response

__all__ = ["form_of_parameters", "read_response"]

_CALLS = "tool_calls"
_END = "\0"
"""Put behind a message, it is in what the message did not close."""
_CLOSINGS = ("</tool_call>", "<|tool_call_end|>", "<tool_call|>")
_AROUND = re.compile(r"[\s,]|</?\w+>")
"""What may be around the parameters of a call."""
_PLACEHOLDER = re.compile(r"\{(\w+)(?:\.(\w+))?[.\w]*\}")


@dataclass(kw_only=True, slots=True)
class _Region:
    field: str
    body: str = ""
    value: Any = None


def read_response(
    tokenizer: Any, ids: Sequence[int], *, prefix: Sequence[int], tools: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a message as TRL reads it; say in it if its reasoning is not closed, or why its calls are not read.

    A message with a call that was not understood to its last character is a text, and its calls are not done.
    """
    message: dict[str, Any] = parse_response(tokenizer, list(ids), prefix=list(prefix), tools=list(tools))
    reasoning = next((key for key in REASONING_KEYS if key in message), None)
    if getattr(tokenizer, "response_template", None) is None or (_CALLS not in message and reasoning is None):
        return message
    text, before = (tokenizer.decode(list(one), skip_special_tokens=False) for one in (ids, prefix))
    field = tokenizer.response_template["fields"].get(_CALLS, {})
    early = _calls_before_their_beginning(field, text) if _CALLS in message else None
    if early == text:  # an answer that only looks like a call
        said = tokenizer.decode(list(ids), skip_special_tokens=True)
        message = {key: value for key, value in message.items() if key != _CALLS}
        return message | {"content": said.rpartition(THINK_CLOSE)[2].strip() if reasoning else said}
    regions = _regions(tokenizer.response_template, text, before=before)
    reason = _why_not_whole(field, regions) if early is None else f"{early!r} stands before it"
    if reason is not None:
        return {"role": "assistant", "content": tokenizer.decode(list(ids), skip_special_tokens=True), UNREAD: reason}
    if reasoning is not None and any(one.field == reasoning and _END in one.body for one in regions):
        message |= {reasoning: message[reasoning].removesuffix(tokenizer.eos_token).rstrip(), OPEN_REASONING: True}
    return message


def _calls_before_their_beginning(field: Mapping[str, Any], text: str) -> str | None:
    """The text before the beginning of calls, if it would be read as a call as well; None if it would not.

    LFM2's template also reads `, word(` as the beginning of a further call, anywhere in a message.
    """
    pattern = field.get("open_pattern") or ""
    beginning = next((one for one in CALL_BEGINNINGS if re.escape(one) in pattern), None)
    if beginning is None:
        return None
    early, _, _ = text.partition(beginning)
    found = re.search(pattern, early.rpartition(THINK_CLOSE)[2])
    return None if found is None else early if early == text else found[0].strip(", ") + ")"


def _regions(template: Mapping[str, Any], text: str, *, before: str) -> list[_Region]:
    """The parts of a message in their order, with their texts."""
    parser = ResponseParser(template, prefix=before)
    found: list[_Region] = []
    for event in _events(parser, text):
        if event["type"] == "region_open":
            found.append(_Region(field=event["field"]))
        elif event["type"] == "region_chunk":
            found[-1].body += event["text"]
        else:
            found[-1].value = event["value"]
    return found


def _events(parser: Any, text: str) -> Iterable[Mapping[str, Any]]:
    yield from parser.initial_events
    yield from parser.feed(text + _END)
    try:
        yield from parser.finalize()[1]
    except (ValueError, TypeError, KeyError):  # a call that is not closed: it keeps what was read of it
        return


def _why_not_whole(field: Mapping[str, Any], regions: Sequence[_Region]) -> str | None:
    """Why not every character of the calls was understood, or None if it was."""
    calls = [one for one in regions if one.field == _CALLS]
    for one in calls:
        if _END in one.body:
            return "its end is missing"
        reason = _why_not_read(field, one)
        if reason is not None:
            return reason
    behind = "".join(one.body for one in regions if one.field != _CALLS) if calls else ""
    closing = next((text for text in _CLOSINGS if text in behind), None)
    return None if closing is None else f"it ends before its {closing}"


def _why_not_read(field: Mapping[str, Any], call: _Region) -> str | None:
    options = field.get("content_args") or {}
    kind = field.get("content")
    if kind == "json":
        return _why_no_json(call.body, options) or _unused(field.get("transform"), options, call)
    if kind == "kv-lines":
        lines = call.body.split(options.get("line_sep", "\n"))
        wrong = next((line for line in lines if line.strip() and options.get("kv_sep", ":") not in line), None)
        return None if wrong is None else _why_no_parameter(wrong.strip(), f"NAME{options.get('kv_sep', ':')}VALUE")
    if kind != "xml-inline":
        return None
    pattern = re.compile(options["tag_pattern"], re.DOTALL)
    if not options.get("merge_duplicates") and (reason := _why_twice(m["key"] for m in pattern.finditer(call.body))):
        return reason
    rest = " ".join(_AROUND.sub(" ", pattern.sub(" ", call.body)).split())
    return _why_no_parameter(rest, form_of_parameters(options["tag_pattern"])) if rest else None


def _why_no_parameter(written: str, form: str) -> str:
    return f"{written!r} in it is not written as {form}"


def form_of_parameters(pattern: str) -> str:
    r"""Return how a call writes a parameter by the response template's pattern, for people and models to read.

    >>> form_of_parameters(r" (?P<key>\w+)=(?P<value>\w+)")
    'NAME=VALUE'
    """
    before, _, rest = pattern.partition("(?P<key>")
    between = rest.partition("(?P<value>")[0].partition(")")[2]
    parts = (before, "NAME", between, "VALUE", rest.rpartition(")")[2])
    return "".join(re.sub(r"\\s\*|\\n|\\", "", part) for part in parts).strip()


def _why_no_json(body: str, options: Mapping[str, Any]) -> str | None:
    """Whether a key is there twice; in dialects of JSON, strings are numbered first, as they may contain anything."""
    texts: list[str] = []

    def numbered(found: re.Match[str]) -> str:
        texts.append(found[1])
        return json.dumps(f"{texts.index(found[1])}")

    for start, stop in options.get("string_delims", ()):
        body = re.sub(f"{re.escape(start)}(.*?){re.escape(stop)}", numbered, body, flags=re.DOTALL)
    if options.get("unquoted_keys"):
        body = re.sub(r"(?<=[{,])\s*(\w+)\s*:", r'"\1":', body)
    try:
        json.loads(body, object_pairs_hook=once_each)
    except json.JSONDecodeError:  # the parser has read it; what it allows beyond this is its own
        return None
    except ValueError as error:
        return str(error)
    return None


def _why_twice(keys: Iterable[str]) -> str | None:
    try:
        once_each((key, None) for key in keys)
    except ValueError as error:
        return str(error)
    return None


def _unused(transform: Any, options: Mapping[str, Any], call: _Region) -> str | None:
    """Say which key of a call is neither its name nor its arguments, or is left out by the transform."""
    used = {found[2] or found[1] for found in _PLACEHOLDER.finditer(json.dumps(transform))}
    if transform is None or used == {"content"}:
        found = call.value if isinstance(call.value, list) else [call.value]
        written = [one.get("function", one) for one in found if isinstance(one, Mapping)]
        used = {"name", "arguments"}
    elif "content" in used or options.get("string_delims") or options.get("unquoted_keys"):
        return None
    else:
        read = json.loads(call.body)
        written = read if isinstance(read, list) else [read]
    other = next((key for one in written if isinstance(one, Mapping) for key in one if key not in used), None)
    return None if other is None else f'it has the key {other!r}; a call has only "name" and "arguments"'
