"""Round trips: any text, any dialect, any order of segments, held against a slow reading of the grammar."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from triptych_parser import DIALECTS, ImageMarker, MarkerError, Prompt, Text, Turn, bind, convert, parse, render

FRAGMENTS = [
    "<image",
    "<image>",
    "<image:",
    "<image|",
    ":",
    "|",
    ">",
    "<",
    "\\",
    "\n",
    " ",
    "a",
    "2",
    "é",
    "图",
    "<|image_",
    "<|image_3|>",
    "|>",
    "<|vision_start|><|image_pad|><|vision_end|>",
    "[IMG]",
    "<start_of_image>",
    "(<image>./</image>)",
    "Image-1: ",
    "Image-7: ",
]
TEXTS = st.one_of(st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join), st.text(max_size=40))
NAMES = TEXTS.filter(
    lambda name: name == name.strip() and name and not (name.isascii() and name.isdigit() and name[0] != "0")
).filter(lambda name: name != "0")
TEXT_DIALECTS = [name for name, dialect in DIALECTS.items() if dialect.opener]
NESTED = [
    "<image:<image>",
    "<image|<image>",
    "<image:a|<image>",
    "<image:<image|<image>",
    "<image:<image:<image:<image>",
    "<image:<image>|<image>",
    "<image|<image:<image>>",
    r"<image:\<image>",
    r"<image:\\<image>",
    r"\<image:\<image>",
    r"<image:\<image|\<image>\|>",
    "<image:<images <image>",
    "<image:\\",
]

_REF = r"(?::(?P<ref>(?:\\.|[^<>|\n\\])*))?"
_ANNOTATION = r"(?:\|(?P<annotation>(?:\\.|[^<>\n\\])*))?"
GRAMMAR = {
    "image": re.compile(f"(?P<opener><image){_REF}{_ANNOTATION}>", re.DOTALL),
    "phi": re.compile(r"(?P<opener><\|image_)(?P<ref>0|[1-9][0-9]{0,8})\|>"),
    **{
        name: re.compile(f"(?P<opener>{re.escape(dialect.opener)})")
        for name, dialect in DIALECTS.items()
        if dialect.opener and name not in ("image", "phi")
    },
}


def read(text: str, dialect: str) -> list[str | dict[str, str | None]]:
    """The pieces of a text as the grammar says, at no care for time: strings and markers."""
    if dialect not in GRAMMAR:
        return [text] if text else []
    pieces: list[str | dict[str, str | None]] = [""]
    at = 0
    while at < len(text):
        stop = at + len(text[at:]) - len(text[at:].lstrip("\\"))
        marker = GRAMMAR[dialect].match(text, stop)
        slashes = stop - at
        if marker is None:
            pieces[-1] += text[at : stop + 1]
            at = stop + 1
        elif slashes % 2:
            pieces[-1] += "\\" * (slashes // 2) + marker["opener"]
            at = stop + len(marker["opener"])
        else:
            pieces[-1] += "\\" * (slashes // 2)
            pieces += [{"ref": None, "annotation": None, **marker.groupdict()}, ""]
            at = marker.end()
    return [piece for piece in pieces if piece]


def pieces_of(message: Mapping[str, Any], dialect: str) -> Iterable[Any]:
    """The pieces of a message; an image part is None."""
    content = message.get("content") or ""
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
        yield from read(part["text"], dialect) if part["type"] == "text" else [None]


def why_refused(messages: Iterable[Mapping[str, Any]], dialect: str) -> str | None:
    """What `parse` has to say against the messages, or None where they are right."""
    turns = [list(pieces_of(message, dialect)) for message in messages]
    markers = [piece for turn in turns for piece in turn if not isinstance(piece, str)]
    refs = [marker["ref"] for marker in markers if marker is not None]
    for ref in refs:
        if ref == "0":
            return "images are numbered from 1"
        if ref is not None and (not ref or ref != ref.strip()):
            return "an image name must not be empty or start or end with a space"
    for marker in markers:
        if (marker is None) != (markers[0] is None):
            return "image parts and markers in text are mixed"
        if marker is not None and (marker["ref"] is None) != (markers[0]["ref"] is None):
            return "markers in order and markers by number or name are mixed"
    wrong = dialect == "internvl" and any(wrong_labels(turns))
    return "the label before the image has another number" if wrong else None


def wrong_labels(turns: Iterable[list[Any]]) -> Iterable[bool]:
    """For each image, whether the text before it ends with the label of another one."""
    number = 0
    for turn in turns:
        before = ""
        for piece in turn:
            if isinstance(piece, str):
                before += piece
                continue
            number += 1
            label = re.search(r"Image-([0-9]{1,9}): \Z", before)
            yield label is not None and int(label[1]) != number
            before = ""


def assert_comes_back(text_or_messages: Any, dialect: str) -> None:
    """Written as it was read; or refused, exactly where the grammar says so."""
    plain = isinstance(text_or_messages, str)
    problem = why_refused([{"content": text_or_messages}] if plain else text_or_messages, dialect)
    if problem is None:
        assert render(parse(text_or_messages, dialect=dialect)) == text_or_messages
        return
    with pytest.raises(MarkerError) as caught:
        parse(text_or_messages, dialect=dialect)
    assert problem in caught.value.problem


def with_examples(texts: list[str]) -> Any:
    """A decorator: these texts are tried in every run."""

    def decorate(test: Any) -> Any:
        for text in texts:
            test = example(text=text)(test)
        return test

    return decorate


@pytest.mark.parametrize("dialect", list(DIALECTS))
@with_examples(NESTED)
@given(text=TEXTS)
def test_a_text_comes_back_as_it_was(dialect: str, text: str) -> None:
    assert_comes_back(text, dialect)


@pytest.mark.parametrize("dialect", TEXT_DIALECTS)
@with_examples(NESTED)
@given(text=TEXTS)
def test_a_text_is_read_as_the_grammar_says(dialect: str, text: str) -> None:
    if why_refused([{"content": text}], dialect) is None:
        expected = [piece if isinstance(piece, str) else "an image" for piece in read(text, dialect)]
        segments = parse(text, dialect=dialect).turns[0].segments
        assert [segment.text if isinstance(segment, Text) else "an image" for segment in segments] == expected


@pytest.mark.parametrize("dialect", TEXT_DIALECTS)
@with_examples(NESTED)
@given(text=TEXTS)
def test_literal_text_survives_being_written_into_any_dialect(dialect: str, text: str) -> None:
    parts = [{"type": "text", "text": text}, {"type": "image"}, {"type": "text", "text": text}]
    bound = bind(parse([{"role": "user", "content": parts}], dialect="parts"), 1)
    written = render(convert(bound, to=dialect).prompt)
    mislabelled = dialect == "internvl" and any(wrong_labels([[text, None]]))
    before = text + "Image-1: " * mislabelled  # the last label counts
    assert bind(parse(written, dialect=dialect), 1).pieces() == [[piece for piece in (before, 0, text) if piece != ""]]


@st.composite
def contents(draw: st.DrawFn) -> Any:
    text = st.builds(lambda text: {"type": "text", "text": text}, TEXTS)
    image = st.sampled_from(
        [{"type": "image"}, {"type": "image", "image": "a.png"}, {"type": "image_url", "image_url": {"url": "x"}}]
    )
    return draw(st.one_of(TEXTS, st.none(), st.lists(st.one_of(text, image), max_size=5)))


@pytest.mark.parametrize("dialect", list(DIALECTS))
@given(turns=st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), contents()), max_size=4))
def test_messages_come_back_as_they_were(dialect: str, turns: list[tuple[str, Any]]) -> None:
    assert_comes_back(
        [{"role": role, **({} if content is None else {"content": content})} for role, content in turns], dialect
    )


def segments_of(dialect: str, ordered: bool) -> st.SearchStrategy[list[Text | ImageMarker]]:
    table = DIALECTS[dialect]
    refs: list[st.SearchStrategy[Any]] = (
        [st.none()] if ordered else [st.integers(1, 99)] * table.numbers + [NAMES] * table.names
    )
    annotations = st.one_of(st.none(), TEXTS) if table.annotations else st.none()
    markers = st.builds(ImageMarker, ref=st.one_of(refs), annotation=annotations)
    texts = TEXTS if not table.labelled else TEXTS.filter(lambda text: not text.endswith(": "))
    return st.lists(st.one_of(texts.map(lambda text: Text(text=text)), markers), max_size=8)


def merged(segments: Iterable[Text | ImageMarker]) -> list[Any]:
    out: list[Any] = []
    for segment in segments:
        if isinstance(segment, ImageMarker):
            out.append((segment.ref, segment.annotation))
        elif out and isinstance(out[-1], str):
            out[-1] += segment.text
        elif segment.text:
            out.append(segment.text)
    return out


@pytest.mark.parametrize(
    ("dialect", "ordered"),
    [(name, True) for name in TEXT_DIALECTS if DIALECTS[name].orders]
    + [(name, False) for name in TEXT_DIALECTS if DIALECTS[name].numbers],
)
@given(data=st.data())
def test_segments_survive_being_written_and_read(dialect: str, ordered: bool, data: st.DataObject) -> None:
    segments = data.draw(segments_of(dialect, ordered))
    prompt = Prompt(turns=(Turn(role="user", segments=tuple(segments)),), dialect=dialect, plain=True)
    assert merged(parse(render(prompt), dialect=dialect).turns[0].segments) == merged(segments)


def drawn_prompt(data: st.DataObject, source: str) -> tuple[Prompt, Any]:
    """A prompt of a dialect, and its images."""
    table = DIALECTS[source]
    addressed = table.numbers or table.names
    ordered = not addressed or (table.orders and data.draw(st.booleans()))
    segments = data.draw(segments_of(source, ordered))
    markers = [segment for segment in segments if isinstance(segment, ImageMarker)]
    names = list(dict.fromkeys(marker.ref for marker in markers if isinstance(marker.ref, str)))
    turn = Turn(role="user", segments=tuple(segments))
    if table.opener is None:
        parts = tuple(replace(segment, part=index) for index, segment in enumerate(segments))
        turn = replace(turn, segments=parts, content="parts")
    prompt = Prompt(turns=(turn,), dialect=source, plain=table.opener is not None)
    return prompt, (len(markers) if ordered else names + [None] * 99)


@pytest.mark.slow_except("image-*", "*-image")
@pytest.mark.parametrize("source", list(DIALECTS))
@pytest.mark.parametrize("target", list(DIALECTS))
@settings(max_examples=settings.default.max_examples // 10)
@given(data=st.data())
def test_conversion_keeps_order_count_and_annotations(source: str, target: str, data: st.DataObject) -> None:
    prompt, images = drawn_prompt(data, source)
    bound = bind(prompt, images, unused_images="allow")
    converted = convert(bound, to=target)
    assert converted.image_order == bound.image_order
    assert [marker.annotation for marker in converted.prompt.markers] == list(bound.annotations)
    again = parse(render(converted.prompt), dialect=target)
    assert again.num_markers == prompt.num_markers
    if DIALECTS[target].annotations and DIALECTS[target].opener:
        assert [marker.annotation for marker in again.markers] == list(bound.annotations)
    if any(marker.ref is not None for marker in again.markers):
        assert bind(again, images, unused_images="allow").image_order == bound.image_order


@pytest.mark.parametrize("name", ["2", "0", "", " a", "a "])
def test_a_name_that_no_marker_can_have_becomes_the_images_number(name: str) -> None:
    parts = [{"type": "image", "name": "b"}, {"type": "image", "name": name}]
    bound = bind(parse([{"role": "user", "content": parts}], dialect="parts"), [name, "b"])
    written = render(convert(bound, to="image").prompt)
    assert written == [{"role": "user", "content": "<image:b><image:1>"}]
    assert bind(parse(written), [None, "b"]).image_order == bound.image_order == (1, 0)
    bad = Prompt(turns=(Turn(role="user", segments=(ImageMarker(ref=name),)),), plain=True)
    with pytest.raises(MarkerError, match="a marker in text cannot have this name"):
        render(bad)


def test_a_lone_image_gets_its_label_where_the_text_ends_with_another_ones() -> None:
    assert render(convert(parse("Image-2: <image>"), to="internvl").prompt) == "Image-2: Image-1: <image>"
    assert render(convert(parse("Image-1: <image>"), to="internvl").prompt) == "Image-1: <image>"
    assert render(convert(parse("<image> Image-2: "), to="internvl").prompt) == "<image> Image-2: "
