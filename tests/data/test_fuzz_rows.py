"""Rows of every format with missing, extra and misplaced keys: refused by place and name, or nothing is left out.

Every text, image, film, tool and limit that is drawn is unique, so that each can be looked for in what was read.
`make fuzz` draws for minutes, new rows each time.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from triptych_data import DataError, Example
from triptych_data.formats import FORMATS
from triptych_data.formats.columns import ANSWERS, CONVERSATIONS, IMAGES, PIXELS, QUESTIONS, SYSTEM
from triptych_data.formats.turns import is_turns
from triptych_data.read_row import row_reader
from triptych_data.rows import SourceRow
from triptych_parser import Text

USERS, ASSISTANTS, SYSTEMS, TOOLS = (
    ("user", "human", "Human"),
    ("assistant", "gpt"),
    ("system",),
    ("tool", "observation"),
)
VIDEOS = ("video", "videos", "video_path", "audio", "audios", "audio_url")
OTHER_IMAGES = ("image_1", "image_2", "screenshot", "left_image", "frames", "second", "depth")
LIMITS = ("min_pixels", "max_pixels", "resized_height", "resized_width", "total_pixels", "image_max_pixels")
FREE = (
    "level",
    "source",
    "prompts",
    "example_id",
    "data_source",
    "difficulty",
    "completions",
    "metadata",
    "file_name",
    "label",
    "gt",
    "target",
)


NUMBERS = ("fps", "nframes", "min_frames", "video_start", "total_pixels", "max_dynamic_patch", "rotation")
PASSED = ("name", "tool_call_id", "reasoning_content")
_ONE_IN_TWELVE = [False] * 11 + [True]


class Draw:
    """Values by kind, each with a number of its own."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.numbers = itertools.count(1)

    def one(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def rarely(self) -> bool:
        return self.draw(st.sampled_from(_ONE_IN_TWELVE))

    def text(
        self, kind: str, markers: tuple[str, ...] = ("", "", "<image>", "<image> and <image>", "<image:2>")
    ) -> str:
        words = f"{kind}{next(self.numbers)}w"
        if self.rarely():
            markers = ("<video>", "<image 1>", "<audio>", "<ref-object>", "<bbox>", r"\<image>", "[IMG]")
        return f"{self.one(*markers)} {words}"

    def image(self) -> Any:
        file = f"i{next(self.numbers)}w.png"
        kind = self.one("path", "path", "path", "mapping", "mapping", "limits", "limits", "extra")
        kind = "film" if self.rarely() else kind
        if kind == "path":
            return file
        if kind == "film":
            return f"m{next(self.numbers)}w.mp4"
        entry: dict[str, Any] = {self.one("path", "image", "url"): file}
        if kind == "limits":
            entry |= {name: self.limit() for name in self.draw(st.sets(st.sampled_from(LIMITS[:4]), max_size=3))}
        if kind == "extra":
            key = self.one("crop", "jigsaw_config", "width", "name")
            entry[key] = f"{'x' if key in ('width', 'name') else 'k'}{next(self.numbers)}w"
        return entry

    def limit(self) -> int:
        return 1_000_000 + next(self.numbers)

    def number(self) -> dict[str, int]:
        """Rarely a key that says how something is to be seen, with a number that no row may lose."""
        return {self.one(*NUMBERS): 2_000_000 + next(self.numbers)} if self.rarely() else {}

    def images(self) -> Any:
        found = [self.image() for _ in range(self.one(0, 1, 1, 2))]
        return self.one(found, found, found[0] if found else None)

    def part(self, kind: str) -> Any:
        which = (
            self.one("video", "extra")
            if self.rarely()
            else self.one("text", "string", "image", "image_url", "placeholder")
        )
        if which == "text":
            return {"type": "text", "text": self.text(kind, ("",)), **self.number()}
        if which == "string":
            return self.text(kind, ("",))
        if which == "placeholder":
            return {"type": "image"} | ({"max_pixels": self.limit()} if self.rarely() else {})
        if which == "image":
            limits = {name: self.limit() for name in self.draw(st.sets(st.sampled_from(LIMITS[:2]), max_size=2))}
            crop = self.one({}, {}, {"crop": f"k{next(self.numbers)}w"})
            crop |= self.number()
            return {"type": "image", self.one("image", "path", "url"): f"i{next(self.numbers)}w.png", **limits, **crop}
        if which == "image_url":
            return {"type": "image_url", "image_url": {"url": f"i{next(self.numbers)}w.png"}}
        if which == "video":
            return {"type": self.one("video", "audio", "video_url"), "video": f"m{next(self.numbers)}w.mp4"}
        return {
            "type": "text",
            "text": self.text(kind, ("",)),
            self.one("image", "max_pixels", "content", "value"): f"i{next(self.numbers)}w.png",
        }

    def turn(self, names: tuple[str, ...], kind: str, keys: tuple[str, str]) -> dict[str, Any]:
        content: Any = self.text(kind)
        if self.one(False, False, True):
            content = [self.part(kind) for _ in range(self.one(1, 2, 3))]
        turn = {keys[0]: self.one(*names), keys[1]: content}
        if self.rarely():
            turn[self.one("tool_calls", "tools")] = [f"t{next(self.numbers)}w"]
        if self.rarely():
            turn[self.one("image", "images", "video")] = f"m{next(self.numbers)}w.mp4"
        if self.rarely():
            turn[self.one("context", "attachments", "thinking")] = [f"k{next(self.numbers)}w"]
        if self.rarely():
            turn[self.one("loss", "weight", "name")] = "x"
        turn |= self.number()
        if self.rarely():
            turn.pop(self.one(*turn))
        return turn

    def turns(self) -> list[dict[str, Any]]:
        keys = self.one(("role", "content"), ("from", "value"))
        order = (
            self.one("su", "au", "uata", "a", "s", "uaa") if self.rarely() else self.one("u", "ua", "sua", "uaua", "uu")
        )
        names = {"u": (USERS, "u"), "a": (ASSISTANTS, "a"), "s": (SYSTEMS, "s"), "t": (TOOLS, "o")}
        turns = [self.turn(*names[letter], keys) for letter in order]
        if self.rarely():
            turns = self.draw(st.permutations(turns))
        if self.rarely():
            turns[0][self.one(*PASSED)] = f"p{next(self.numbers)}w"
        return turns

    def objects(self) -> dict[str, Any]:
        boxes = [[1, 2, 3, 4]] * self.one(0, 1, 2)
        found: dict[str, Any] = {"ref": [f"u{next(self.numbers)}w" for _ in range(self.one(0, 1, 2))], "bbox": boxes}
        if self.rarely():
            found["image_id"] = [self.one(0, 1) for _ in boxes]
        return found

    def row(self) -> dict[str, Any]:
        row: dict[str, Any] = {"id": self.one(None, 7, "x")}
        if self.one(True, False):
            turns = self.turns()
            name = self.one(*CONVERSATIONS, "prompt")
            row[name] = json.dumps(turns) if self.rarely() else turns
        else:
            row[self.one(*QUESTIONS)] = self.text("u")
        for chance, name, value in (
            (self.one(True, False), self.one(*IMAGES), self.images()),
            (self.one(True, False), self.one(*ANSWERS), f"a{next(self.numbers)}w"),
            (self.rarely(), self.one(*ANSWERS), f"a{next(self.numbers)}w"),
            (self.rarely(), self.one(*IMAGES), self.images()),
            (self.rarely(), self.one(*SYSTEM), self.text("s", ("",))),
            (self.rarely(), self.one(*QUESTIONS), self.text("u")),
            (self.rarely(), "history", [[self.text("u", ("",)), self.text("a", ("",))]]),
            (
                self.rarely(),
                self.one("options", "choices", "answer_choices"),
                [f"A. u{next(self.numbers)}w", f"B. u{next(self.numbers)}w"],
            ),
            (self.rarely(), self.one("dialog", "raw_prompt"), [{"role": "user", "content": f"u{next(self.numbers)}w"}]),
            (self.rarely(), "options", [f"u{next(self.numbers)}w"]),
            (self.rarely(), self.one("instruction", "input", "context", "hint", "suffix"), f"u{next(self.numbers)}w"),
            (self.rarely(), self.one("option_1", "choice_b", "option A"), f"u{next(self.numbers)}w"),
            (self.rarely(), self.one("sys", "systemPrompt", "system text"), f"s{next(self.numbers)}w"),
            (self.rarely(), self.one("extra_info", "meta"), {"views": [{"left": f"i{next(self.numbers)}w.png"}]}),
            (
                self.rarely(),
                self.one(*VIDEOS),
                self.one(f"m{next(self.numbers)}w.mp4", [f"m{next(self.numbers)}w.mp4"]),
            ),
            (self.rarely(), self.one(*OTHER_IMAGES), f"i{next(self.numbers)}w.png"),
            (self.rarely(), self.one("tools", "functions"), [f"t{next(self.numbers)}w"]),
            (self.rarely(), self.one(*LIMITS), self.limit()),
            (self.rarely(), "objects", self.objects()),
            (self.rarely(), "reward_model", {"ground_truth": f"a{next(self.numbers)}w"}),
            (self.one(True, False), self.one(*FREE), self.one(f"x{next(self.numbers)}w", [1, "x"], {"a": 1}, 0.5)),
        ):
            if chance:
                row[name] = value
        if self.rarely():
            moved = self.one(*row)
            row[self.one(*IMAGES, *QUESTIONS, *ANSWERS, *FREE, *CONVERSATIONS)] = row.pop(moved)
        return row


@st.composite
def rows(draw: Any) -> dict[str, Any]:
    return Draw(draw).row()


def words(value: object, kind: str) -> set[str]:
    """The words of one kind that a value holds, however deep."""
    return set(re.findall(rf"\b{kind}\d+w\b", json.dumps(value)))


def numbers(value: object) -> Iterator[int]:
    return (int(found) for found in re.findall(r"\b10000\d\d\b", json.dumps(value)))


def read(row: dict[str, Any], format: str) -> Example | DataError:
    place = SourceRow(values=row, file="rows.jsonl", source="rows.jsonl:3", index=2, folder=Path())
    try:
        return row_reader(format=format)(place)
    except DataError as error:
        return error


def check_refusal(error: DataError, row: dict[str, Any]) -> None:
    message = str(error)
    assert message.startswith("rows.jsonl:3")
    assert message.isprintable()
    assert error.remedy
    keys = set(re.findall(r'"([\w ]+)": ', json.dumps(row)))
    keys |= set(re.findall(r'\\"([\w ]+)\\": ', json.dumps(row))) | {"marker", "message", "image", "prompt"}
    assert any(key in message for key in keys), message


def texts_of(found: Example) -> Iterator[str]:
    """The texts that were written as strings: in parts, text is only text."""
    for turn in found.prompt.prompt.turns:
        if turn.content == "string":
            yield from (segment.text for segment in turn.segments if isinstance(segment, Text))


def check_whole(found: Example, row: dict[str, Any]) -> None:
    """Every word that looks like input is said by the one whose it is, or is an image; the rest goes to rewards."""
    said: dict[str, str] = {}
    for turn, pieces in zip(found.prompt.prompt.turns, found.prompt.pieces(), strict=True):
        texts = " ".join(piece for piece in pieces if isinstance(piece, str))
        said[turn.role] = f"{said.get(turn.role, '')} {texts}"
    images = [str(image.ref) for image in found.images]
    others = {*FREE, *ANSWERS, "reward_model", "objects"} | (set() if is_turns(row.get("message")) else {"message"})
    others |= {"extra_info", "meta"} if images else set()  # a text in there may say where the images were taken from
    if found.images and isinstance(row.get("path"), str) and not row["path"].endswith(".png"):
        others.add("path")  # next to images a text there may be the path of anything
    inputs = {name: value for name, value in row.items() if name not in others}
    asked = words([row[name] for name in QUESTIONS if isinstance(row.get(name), str) and not is_turns(row[name])], "s")
    for kind, role in (("u", "user"), ("s", "system"), ("o", "tool")):
        if (
            kind == "s" and asked
        ):  # the text of a system message was moved into the column of the question: a user asks it
            assert asked <= words(said.get("user"), kind)
            continue
        assert words(inputs, kind) <= words(said.get(role), kind) | words(images, kind)
        assert not words([text for other, text in said.items() if other != role], kind)
    assert words(inputs, "a") <= words([*said.values(), found.answer, images], "a")
    assert words(inputs, "i") <= words(images, "i")
    assert not any(mark in " ".join(texts_of(found)) for mark in ("<video>", "<audio>", "<image 1>"))
    passed = [turn.extra for turn in found.prompt.prompt.turns]
    assert words(inputs, "p") <= words(passed, "p")
    assert not re.search(r"\b20000\d\d\b", json.dumps(inputs))
    assert found.answer is not None or not any(row.get(name) for name in ANSWERS)
    assert not (words(inputs, "m") | words(inputs, "t") | words(inputs, "k")) - words(images, "t")
    if found.images:
        given = [value for image in found.images for value in (image.min_pixels, image.max_pixels, image.resized)]
        own = set(numbers({name: value for name, value in inputs.items() if name not in PIXELS}))
        assert own <= set(numbers(given))
        assert own or set(numbers(inputs)) <= set(numbers(given))  # a row's limits give way to an image's own
    assert set(found.prompt.image_order) == set(range(len(found.images)))
    assert found.columns == row
    for name, value in found.extras.items():
        assert value == row[name]
    assert {name for name in row if name in (*FREE, *ANSWERS)} <= set(found.extras)


@pytest.mark.parametrize("format", ["auto", *FORMATS])
@given(row=rows())
def test_a_row_is_refused_by_name_or_read_whole(format, row):
    found = read(row, format)
    if isinstance(found, DataError):
        check_refusal(found, row)
    else:
        check_whole(found, row)
