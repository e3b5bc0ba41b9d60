"""Known answers: what each dialect reads, what is literal, and what is refused."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from triptych_parser import ImageMarker, MarkerError, Prompt, Text, parse
from triptych_parser.dialects import DIALECTS
from triptych_parser.parse import _plain_segments
from triptych_parser.scan import scan


def outline(prompt: Prompt) -> list[Any]:
    """The segments in short: text as itself, a marker as (ref,) or (ref, annotation)."""
    return [
        segment.text
        if isinstance(segment, Text)
        else (segment.ref,)
        if segment.annotation is None
        else (segment.ref, segment.annotation)
        for turn in prompt.turns
        for segment in turn.segments
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("no marker", ["no marker"]),
        ("<image>", [(None,)]),
        ("a<image><image>b", ["a", (None,), (None,), "b"]),
        ("<image:2> <image:10>", [(2,), " ", (10,)]),
        ("<image:before>", [("before",)]),
        ("<image:the last screen>", [("the last screen",)]),
        ("<image:before|the screen before the tap>", [("before", "the screen before the tap")]),
        ("<image|left one>", [(None, "left one")]),
        ("<image:a|b|c>", [("a", "b|c")]),
        ("<image:a|>", [("a", "")]),
        (r"\<image>", ["<image>"]),
        (r"\\<image>", ["\\", (None,)]),
        (r"\\\<image:2>", [r"\<image:2>"]),
        (r"C:\dir\n \\ stays", [r"C:\dir\n \\ stays"]),
        (r"<image:a\>b\|c|x \< y>", [("a>b|c", "x < y")]),
        (r"<image:a\\|b\\>", [("a\\", "b\\")]),
        (r"<image:C:\dir>", [(r"C:\dir",)]),
        ("<image:012>", [("012",)]),
        ("<image", ["<image"]),
        ("<images> <imagery> <image src='x'>", ["<images> <imagery> <image src='x'>"]),
        ("<image:open <image>", ["<image:open ", (None,)]),
        ("<image:line\nbreak>", ["<image:line\nbreak>"]),
        ("<Image> < image>", ["<Image> < image>"]),
        ("<image:２>", [("２",)]),
        ("<image:123456789012>", [("123456789012",)]),
    ],
)
def test_the_image_dialect(text: str, expected: list[Any]) -> None:
    assert outline(parse(text)) == expected


@pytest.mark.parametrize(
    ("dialect", "text", "expected"),
    [
        (
            "phi",
            "<|image_1|> vs <|image_22|> <|image_x|> <|image_01|>",
            [(1,), " vs ", (22,), " <|image_x|> <|image_01|>"],
        ),
        ("qwen", "a <|vision_start|><|image_pad|><|vision_end|><|image_pad|>", ["a ", (None,), "<|image_pad|>"]),
        ("internvl", "Image-1: <image>\nImage-2: <image>\n", ["Image-1: ", (None,), "\nImage-2: ", (None,), "\n"]),
        ("pixtral", r"[IMG][IMG] \[IMG] [img]", [(None,), (None,), " [IMG] [img]"]),
        ("gemma", "<start_of_image>what", [(None,), "what"]),
        ("minicpm", "(<image>./</image>)\nwhat", [(None,), "\nwhat"]),
        ("parts", "<image> is text", ["<image> is text"]),
    ],
)
def test_other_dialects(dialect: str, text: str, expected: list[Any]) -> None:
    assert outline(parse(text, dialect=dialect)) == expected


def test_messages_with_a_system_prompt_and_two_rounds() -> None:
    prompt = parse(
        [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "<image> and <image>?"},
            {"role": "assistant", "content": None, "tool_calls": [1]},
            {"role": "user", "content": [{"type": "text", "text": "now <image>"}]},
        ]
    )
    assert [turn.role for turn in prompt.turns] == ["system", "user", "assistant", "user"]
    assert outline(prompt) == ["Be short.", (None,), " and ", (None,), "?", "now ", (None,)]
    assert prompt.turns[2].extra == {"tool_calls": [1]}


def test_content_parts_of_trl_and_openai() -> None:
    content = [
        {"type": "image"},
        {"type": "text", "text": "literally <image>"},
        {"type": "image", "name": "b", "annotation": "second"},
    ]
    with pytest.raises(MarkerError, match="image parts and markers in text are mixed"):
        parse([{"role": "user", "content": content[:2]}])
    assert outline(parse([{"role": "user", "content": content[:2]}], dialect="parts")) == [(None,), "literally <image>"]
    assert outline(parse([{"role": "user", "content": content[2:]}], dialect="parts")) == [("b", "second")]
    url = [{"type": "image_url", "image_url": {"url": "a.png"}}, {"type": "text", "text": "?"}]
    assert outline(parse([{"role": "user", "content": url}], dialect="openai")) == [(None,), "?"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a <image:0>", "line 1: column 3, <image:0>: images are numbered from 1 (got 0)"),
        ("<image:>", "an image name must not be empty"),
        ("<image: a>", "an image name must not be empty or start or end with a space (got \"' a'\")"),
        ("<image> <image:1>", "line 1: column 9, <image:1>: markers in order and markers by number or name are mixed"),
        ("<image:a> <image>", "line 1: column 11, <image>: markers in order and markers by number or name are mixed"),
    ],
)
def test_references_that_cannot_be_right(text: str, message: str) -> None:
    with pytest.raises(MarkerError) as caught:
        parse(text)
    assert message.split(" (")[0] in str(caught.value)


def test_an_error_shows_file_line_column_and_a_caret() -> None:
    with pytest.raises(MarkerError) as caught:
        parse("first line\n\tsee <image:0> here\nlast", source="train.jsonl", line=17)
    error = caught.value
    assert str(error) == (
        "train.jsonl:17: line 2 of the prompt, column 6, <image:0>: images are numbered from 1 (got 0); "
        "write <image:1> for the first\n"
        "   see <image:0> here\n"
        "       ^^^^^^^^^"
    )
    assert (error.source, error.line, error.column, error.marker, error.got) == ("train.jsonl", 17, 6, "<image:0>", 0)
    assert "\n" not in error.summary


def test_an_error_quotes_a_long_line_in_part() -> None:
    with pytest.raises(MarkerError) as caught:
        parse("x" * 5_000 + "<image:0>" + "y" * 5_000)
    _, shown, carets = str(caught.value).split("\n")
    assert len(shown) < 250
    assert shown[carets.index("^") : carets.rindex("^") + 1] == "<image:0>"


def test_an_error_survives_a_worker_process() -> None:
    with pytest.raises(MarkerError) as caught:
        parse("<image:0>", source="a.jsonl", line=2)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.line, copy.column) == (str(caught.value), 2, 1)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"content": "x"}], "message 1: a message needs a 'role'"),
        ([{"role": "user", "content": 3}], "message 1: message content must be a string or a list of parts"),
        (
            [{"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "video"}]}],
            "message 2: part 1 is neither",
        ),
        ([{"role": "user", "content": ["loose"]}], "message 1: part 1 is neither text nor image"),
    ],
)
def test_messages_that_cannot_be_read(messages: list[Any], message: str) -> None:
    with pytest.raises(MarkerError, match="a.jsonl:3: ") as caught:
        parse(messages, source="a.jsonl", line=3)
    assert message in str(caught.value)


def test_a_label_that_contradicts_the_order_is_refused() -> None:
    with pytest.raises(MarkerError, match=r"another number \(expected Image-1:, got Image-2:\)"):
        parse("Image-2: <image>", dialect="internvl")


def test_an_unknown_dialect_names_the_known_ones() -> None:
    with pytest.raises(MarkerError, match="unknown dialect 'phi4'; use one of image, phi, qwen"):
        parse("x", dialect="phi4")


def test_markers_know_where_they_stand() -> None:
    text = "ab <image:x|y> cd <image:z>"
    assert [text[m.start : m.end] for m in parse(text).markers] == ["<image:x|y>", "<image:z>"]
    assert parse(text).markers[1] == ImageMarker(ref="z")


@pytest.mark.parametrize("name", [name for name, dialect in DIALECTS.items() if dialect.plain])
@given(parts=st.lists(st.sampled_from(["marker", "", " ", "a", "<", "é ", "<imag", "\n", "]"]), max_size=8))
def test_a_text_of_plain_markers_is_split_as_the_scan_reads_it(name: str, parts: list[str]) -> None:
    dialect = DIALECTS[name]
    assert dialect.plain is not None
    text = "".join(dialect.plain if part == "marker" else part for part in parts)
    found = [
        piece.text if isinstance(piece, Text) else (piece.start, piece.end)
        for piece in _plain_segments(text, dialect.plain, None)
    ]
    pieces = scan(text, opener=dialect.opener, matcher=dialect.matcher)
    assert found == [piece if isinstance(piece, str) else (piece.start, piece.end) for piece in pieces]
    markers = parse(text, dialect=name).markers
    assert [(marker.start, marker.end) for marker in markers] == [place for place in found if isinstance(place, tuple)]
