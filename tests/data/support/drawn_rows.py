"""Draws rows of every format with missing, extra and misplaced keys; every value has a number of its own."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import strategies as st
from triptych_data.formats.columns import ANSWERS, CONVERSATIONS, IMAGES, QUESTIONS, SYSTEM

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
            key = self.one("crop", "jigsaw_config", "width", "name", "caption", "alt")
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
            (
                self.rarely(),
                self.one("Options", "CHOICES", "Question", "PROBLEM", "sub_question", "follow_up", "questions", "goal"),
                self.one(f"Say u{next(self.numbers)}w", [f"Say u{next(self.numbers)}w"]),
            ),
            (self.rarely(), "info", {self.one("image", "second_image", "images"): f"i{next(self.numbers)}w.png"}),
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
