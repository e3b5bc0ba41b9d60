"""Every marker gets its image, or the error says which one does not."""

from __future__ import annotations

import pytest
from triptych_parser import MarkerError, bind, parse


def test_markers_take_images_in_order_by_number_and_by_name() -> None:
    assert bind(parse("<image> <image>"), 2).image_order == (0, 1)
    assert bind(parse("<image:2> <image:1> <image:2>"), 2).image_order == (1, 0, 1)
    assert bind(parse("<image:b> <image:1>"), ["a", "b"]).image_order == (1, 0)
    assert bind(parse("<image:b> <image:a>"), ["a", "b"]).image_order == (1, 0)


@pytest.mark.parametrize(
    ("text", "images", "message"),
    [
        ("<image> <image>", 1, "column 9, <image>: marker 2 has no image (expected 2 images, got 1)"),
        ("<image>", 3, "images 2, 3 have no marker (expected 3 markers, got 1)"),
        ("<image>", ["a", "late"], "image 2 ('late') has no marker (expected 2 markers, got 1)"),
        ("nothing", 1, "at the start of the text for images that come first"),
        ("<image:3>", 2, "there is no image 3 (expected at least 3 images, got 2)"),
        ("<image:c>", ["a", "b"], "no image has this name (expected one of 'a', 'b', got 'c')"),
        ("<image:c>", 2, "no image has this name (expected named images, got images without names)"),
        ("<image:1>", 2, "image 2 has no marker (expected a marker for every image, got 1 images without)"),
        ("<image:a>", ["a", "a"], "images 1 and 2 are both named 'a'"),
        ("x", 9, "images 1, 2, 3, 4, 5, ... have no marker"),
    ],
)
def test_counts_and_names_that_do_not_fit(text: str, images: int | list[str], message: str) -> None:
    with pytest.raises(MarkerError) as caught:
        bind(parse(text, source="a.jsonl", line=5), images)
    assert str(caught.value).startswith("a.jsonl:5: ")
    assert message in caught.value.summary


def test_images_without_any_marker_come_first() -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "which?"}]
    bound = bind(parse(messages), 2, no_markers="first")
    assert bound.pieces() == [["s"], [0, 1, "which?"]]
    assert bind(parse("<image> x"), 1, no_markers="first").pieces() == [[0, " x"]]
    assert bind(parse("only text"), 0, no_markers="first").pieces() == [["only text"]]
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
    assert bind(parse(parts, dialect="parts"), 2, no_markers="first").pieces() == [[0, 1, "a"]]
    with pytest.raises(MarkerError, match="marker 2 has no image"):
        bind(parse("<image> <image>"), 1, no_markers="first")


def test_images_may_stay_unused_on_request() -> None:
    assert bind(parse("<image:2>"), 3, unused_images="allow").image_order == (1,)


def test_messages_join_texts_and_keep_other_keys() -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "kim"},
        {"role": "assistant", "content": None, "tool_calls": []},
    ]
    assert bind(parse(messages), 0).messages() == [
        {"role": "user", "name": "kim", "content": [{"type": "text", "text": "ab"}]},
        {"role": "assistant", "tool_calls": []},
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["x the cat: ", 0, " y ", 1]),
        ({"annotation_template": None}, ["x ", 0, " y ", 1]),
        (
            {"annotation_template": "[{annotation}] {image} (end of {annotation})"},
            ["x [the cat] ", 0, " (end of the cat) y ", 1],
        ),
        ({"label_images": True}, ["x Image 1: the cat: ", 0, " y Image 2: ", 1]),
    ],
)
def test_annotations_and_labels(options: dict, expected: list) -> None:
    bound = bind(parse("x <image|the cat> y <image>"), 2, **options)
    assert bound.pieces() == [expected]
    assert bound.annotations == ("the cat", None)


def test_a_repeated_image_keeps_its_label() -> None:
    bound = bind(parse("<image:b> <image:a> <image:b>"), ["a", "b"], label_images=True)
    assert bound.pieces() == [["Image 2: ", 1, " Image 1: ", 0, " Image 2: ", 1]]


def test_an_annotation_with_braces_is_not_a_template() -> None:
    bound = bind(parse("<image|{image} {0}>"), 1)
    assert bound.pieces() == [["{image} {0}: ", 0]]


@pytest.mark.parametrize("option", ["no_markers", "unused_images"])
def test_an_unknown_word_for_an_option_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must be one of .*, got 'maybe'"):
        bind(parse("x"), 0, **{option: "maybe"})


def test_one_string_is_no_list_of_names() -> None:
    with pytest.raises(TypeError, match="got the string 'ab'"):
        bind(parse("<image:a> <image:b>"), "ab")


def test_where_images_are_parts_a_remedy_speaks_of_parts():
    parts = parse([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "x"}]}])
    with pytest.raises(MarkerError, match=r'add a part {"type": "image"} where it belongs'):
        bind(parts, 2)
    with pytest.raises(MarkerError, match="add the missing image to the record, or take the image part out"):
        bind(parts, 0)
    with pytest.raises(MarkerError, match=r'add a part {"type": "image"} where each belongs'):
        bind(parse([{"role": "user", "content": [{"type": "text", "text": "x"}]}], dialect="parts"), 1)
