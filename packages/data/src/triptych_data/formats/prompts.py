"""The prompt of a row: messages, or one text with the earlier turns before it and the options below it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from triptych_data.formats.columns import CONVERSATIONS, OPTIONS, QUESTIONS, Columns, is_empty, is_nan, listed_text
from triptych_data.formats.parts import joined_text
from triptych_data.formats.pictures import is_image_file
from triptych_data.formats.record import RowError, require_text, shown
from triptych_data.formats.turns import Turn, is_turns, read_turns
from triptych_data.formats.written import MARKER, are_lettered, are_numbered, are_written, without_letters

_TAGS = re.compile(r"</?answer>")


def read_prompt(columns: Columns) -> tuple[list[Turn], str]:
    """Return (turns with the answer's, the column that they come from).

    Of several columns messages go before a text, and a longer text before a shorter one, if what is read contains the
    texts of all others; RowError otherwise.
    """
    found = columns.given((*CONVERSATIONS, *QUESTIONS))
    if "message" in found and not is_turns(found["message"]):  # a common word: it counts only if it contains messages
        columns.read.remove("message")
        del found["message"]
    if not found:  # an image may be the whole question
        found = {name: "" for name in QUESTIONS if columns.row.get(name) == ""}
    if not found and (empty := [name for name in (*CONVERSATIONS, *QUESTIONS) if is_empty(columns.row.get(name, 0))]):
        raise RowError(
            f"expected a prompt, got nothing in {', '.join(empty)}", remedy="write the question, or remove the row"
        )
    if not found:
        raise RowError(
            f"expected a prompt in one of {', '.join((*CONVERSATIONS, *QUESTIONS))}, "
            f"got the columns {', '.join(map(str, columns.row)) or 'none'}",
            remedy="rename the column that contains it",
            in_file=", or name it in dataset_info.json, which is read for the formats auto and sharegpt",
        )
    are_turns = {name: name in CONVERSATIONS or is_turns(value) for name, value in found.items()}
    turns = {name: _turns(name, value, are_turns[name]) for name, value in found.items()}
    source = next(iter(turns))
    if len(turns) > 1:
        source = max(turns, key=lambda name: (name in CONVERSATIONS, are_turns[name], len(_text(turns[name]))))
    for other, its in turns.items():
        if other != source and not _contains(turns[source], its):
            raise RowError(
                f"expected one prompt, got different texts in {source} and {other}",
                remedy=f"remove {other}, or call it reward_{other} where only rewards need it",
            )
    if are_turns[source]:
        return turns[source], source
    question = _with_options(turns[source][0]["content"], columns)
    return [*_history(columns), {"role": "user", "content": question}], source


def prompt_text(turns: list[Turn]) -> str:
    """Return all that is said in the turns, for a search in it."""
    return "\n".join(joined_text(turn["content"]) for turn in turns)


def refuse_silence(turns: list[Turn], *, what: str, any_order: bool = False) -> None:
    """Raise RowError if no turn of the user has a text, in a row without images; with `any_order`, if no turn has."""
    if not any(prompt_text([turn]).strip() for turn in turns if any_order or turn["role"] == "user"):
        raise RowError(f"expected a text or an image from the user, got neither in {what}", remedy="write the question")


def offered_options(row: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return (column, texts) of every column with options."""
    return [(name, texts) for name in OPTIONS if name in row and (texts := _option_texts(row[name]))]


def option_images(value: Any) -> list[Any]:
    """Return the images among the options of a column."""
    return [option for _, option in _options(value) if _is_picture(option)]


def _option_texts(value: Any) -> list[str]:
    """The options as texts; none where they are images."""
    options = _options(value)
    return [] if any(_is_picture(option) for _, option in options) else [text for text, _ in options]


def _options(value: Any) -> list[tuple[str, Any]]:
    """(the text of an option, the option itself without its letter) of each that says something."""
    value = listed_text(value)
    pairs: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        labels, texts = value.get("label"), value.get("text")
        pairs = list(value.items())
        if isinstance(labels, (list, tuple)) and isinstance(texts, (list, tuple)) and len(labels) == len(texts):
            pairs = list(zip(labels, texts, strict=True))
        return [(f"{label}. {option}", option) for label, option in pairs if _is_option(option)]
    lines = value.strip().splitlines() if isinstance(value, str) else value
    options = [option for option in (lines if isinstance(lines, (list, tuple)) else ()) if _is_option(option)]
    texts = [option for option in options if isinstance(option, str)]
    bare = iter(without_letters(texts))
    return [(str(option), next(bare) if isinstance(option, str) else option) for option in options]


def _is_option(option: Any) -> bool:
    return not is_empty(option) and not is_nan(option) and bool(str(option).strip())


def _is_picture(option: Any) -> bool:
    return is_image_file(option) and not (isinstance(option, str) and len(option.split()) > 1)


def check_answer_is_option(row: Mapping[str, Any], answer: str | None) -> None:
    """Raise RowError if the answer of a row with options is a number or a letter that no option is.

    A number may count the options, and no completion can be right about a letter that is not among them.
    """
    said = _TAGS.sub("", answer or "").strip()
    kind = "number" if said.isdecimal() else "letter"
    if kind == "letter" and not re.fullmatch("[A-Z]", said):
        return
    for name, options in offered_options(row):
        texts, is_numbered = {text.strip() for text in (*options, *without_letters(options))}, are_numbered(options)
        is_given = any(re.match(rf"[(\[]?{said}[.)\]:]", text, re.IGNORECASE) for text in texts)
        if kind == "number":
            is_counted = is_numbered and 0 < int(said) <= len(options)
        else:
            is_counted = not is_numbered and (len(options) < 2 or ord(said) - ord("A") < len(options))
        if said not in texts and not is_given and not is_counted:
            raise RowError(
                f"expected the answer to be the letter or the text of one of the {name}, got the {kind} {said}, which "
                "no option is",
                remedy="write the letter or the text of the option that is meant, or call the column reward_answer "
                "where only rewards of your own need it",
            )


def _with_options(question: str, columns: Columns) -> str:
    """The question with the options below it, if the options have letters and are not in the question already."""
    found = next(
        ((name, texts) for name, texts in offered_options(columns.row) if not are_written(texts, question)), None
    )
    if found is None:
        return question
    name, options = found
    if not are_lettered(options):
        raise RowError(
            f"expected the {name} in the question, or with letters, got {shown(options)} and no place for them",
            remedy=f'write them into the question, or write letters before them as in "A. {options[0]}", or call the '
            f"column reward_{name} where only rewards need it",
        )
    return "\n".join((f"{question}\nOptions:", *options))


def _history(columns: Columns) -> list[Turn]:
    """The earlier turns of an ms-swift row, a list of [question, answer]; a text or a list of texts stays unread."""
    pairs = listed_text(columns.row.get("history"))
    is_texts = isinstance(pairs, (list, tuple)) and all(isinstance(pair, str) for pair in pairs)
    if isinstance(pairs, str) or (is_texts and pairs):
        return []
    turns: list[Turn] = []
    for value in columns.given(("history",)).values():
        if not isinstance(pairs, (list, tuple)) or not all(
            isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs
        ):
            raise RowError(
                f"expected history to be a list of [question, answer], got {shown(value)}",
                remedy="write it into the prompt, and remove the column, or call it reward_history where only rewards "
                "need it",
            )
        for question, answer in pairs:
            turns.append({"role": "user", "content": require_text(question, what="a question of history")})
            turns.append({"role": "assistant", "content": require_text(answer, what="an answer of history")})
    return turns


def _turns(name: str, value: Any, are_turns: bool) -> list[Turn]:
    if are_turns or isinstance(value, (list, tuple)):
        return read_turns(value, what=name)
    return [{"role": "user", "content": require_text(value, what=name)}]


def _text(turns: list[Turn]) -> str:
    return "\n".join(content_text(turn["content"]) for turn in turns)


def content_text(content: Any) -> str:
    """Return the texts of a message's content before it is read, which may be anything."""
    if isinstance(content, (list, tuple)):
        texts = [
            part if isinstance(part, str) else part.get("text") for part in content if isinstance(part, (str, Mapping))
        ]
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else str("" if content is None else content)


def _contains(whole: list[Turn], other: list[Turn]) -> bool:
    """Whether every text of `other` is in `whole`, with no fewer markers for images."""
    text = _text(whole)
    if len(MARKER.findall(_text(other))) > len(MARKER.findall(text)) and not _has_parts(whole):
        return False
    plain = _plain(text)
    return all(_plain(content_text(turn["content"])) in plain for turn in other)


def _has_parts(turns: list[Turn]) -> bool:
    return any(isinstance(turn["content"], (list, tuple)) for turn in turns)


def _plain(text: str) -> str:
    return " ".join(MARKER.sub(" ", text).split())
