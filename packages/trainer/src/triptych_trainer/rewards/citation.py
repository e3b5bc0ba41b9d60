"""Which image does a text mean? Numbers from 1, names, ordinals; and the reward `image_reference`."""

import re
from collections.abc import Iterator, Sequence

from triptych_trainer.rewards.row import ImageInfo, Reward, Row, expected_value, row_reward

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_NOUN = r"(?:images?|pictures?|photos?|figures?|screenshots?|pages?|img|fig)"
_NUMBERED = re.compile(rf"<image:(\d{{1,4}})>|\b{_NOUN}[\s_.#:\-]{{0,3}}(\d{{1,4}})\b", re.IGNORECASE)
_MORE = re.compile(r"\s{0,3}(?:,|and|&|or)\s{0,3}(\d{1,4})\b(?!\s{0,3}[.:,]?\d)", re.IGNORECASE)
# `a`: case counts for nothing among ASCII letters only, so that what is found is a word of the list.
_WORDS = rf"(?a:{'|'.join(_ORDINALS)}|last)"
_ORDINAL = re.compile(rf"\b({_WORDS}|\d{{1,4}}(?:st|nd|rd|th))\s{{1,3}}{_NOUN}\b", re.IGNORECASE)
_SEPARATOR = re.compile(r"\s*(?:->|=>|[,;>\n\u2192]|\bthen\b|\band\b)\s*", re.IGNORECASE)


def image_reference_reward(*, column: str = "answer", partial: bool = False) -> Reward:
    """Build the reward: does the answer cite the right images?

    `column` contains the expected image or images by number from 1 or by name (`2`, `after`, `1, 3`).
    The score is 1.0 for the same set of images, else 0.0; with `partial` it is the F1 of the two sets.
    """

    def image_reference(row: Row) -> float:
        return score_references(row, column=column, partial=partial)

    def check(row: Row) -> None:
        expected_images(row, column=column)

    return row_reward(image_reference, check=check)


def score_references(row: Row, *, column: str = "answer", partial: bool = False) -> float:
    """Compare the images that the answer cites with the expected ones, as sets."""
    wanted = expected_images(row, column=column)
    answer = row.said_answer
    cited = cited_images(answer, row.images) if answer is not None else frozenset()
    if not partial:
        return float(cited == wanted)
    return 2 * len(cited & wanted) / (len(cited) + len(wanted))


def expected_images(row: Row, *, column: str = "answer") -> frozenset[int]:
    """Return the indices of the images that a column names; raise ValueError if one is not there."""
    expected = expected_value(row, column)
    wanted = cited_images(expected, row.images)
    if not wanted or -1 in wanted:
        what = "an image that is not there" if wanted else "none"
        raise ValueError(
            f"{row.where}: column {column!r} is {expected!r}, which names {what} among the {len(row.images)} images; "
            "write numbers from 1 or names, for example '2' or 'before, after'"
        )
    return wanted


def cited_images(text: str, images: Sequence[ImageInfo]) -> frozenset[int]:
    """Return the indices (from 0) of the images that a text cites; an image that does not exist counts as -1.

    Found are `image 2`, `images 1 and 3`, `<image:2>`, `<image:after>`, `the second image`, `the last picture`,
    `image "after"`, `the after image`; and a text that is only numbers or names, such as `2` or `before, after`.
    """
    bare = [image_index(item, images) for item in items(text)]
    if bare and all(index is not None for index in bare):
        return frozenset(index for index in bare if index is not None)
    return mentioned_images(text, images)


def mentioned_images(text: str, images: Sequence[ImageInfo]) -> frozenset[int]:
    """Return the indices of the images that running text mentions; bare numbers and names do not count."""
    return frozenset(index for _, _, index in located_images(text, images))


def located_images(text: str, images: Sequence[ImageInfo]) -> list[tuple[int, int, int]]:
    """Return the mentions of `mentioned_images` as (start, end, index)."""
    found = [(start, end, _from_number(number, images)) for start, end, number in _numbers(text)]
    for match in _ORDINAL.finditer(text):
        found.append((match.start(), match.end(), _from_ordinal(match.group(1).lower(), images)))
    for image in images:
        if image.name:
            found += [(match.start(), match.end(), image.index) for match in _names(text, image.name)]
    return found


def image_index(text: str, images: Sequence[ImageInfo]) -> int | None:
    """Return the index of the image that `2`, `#2`, `image 2`, `after` or `second` names; -1 if there is no such one.

    None means that the text is no reference at all.
    """
    word = text.strip().strip("\"'`()[]<>.").casefold()
    for image in images:
        if image.name and word in (image.name.casefold(), f"image:{image.name.casefold()}"):
            return image.index
    if numbered := re.fullmatch(rf"(?:{_NOUN}[\s_.#:\-]{{0,3}})?#?(\d{{1,4}})", word):
        return _from_number(int(numbered.group(1)), images)
    if ordinal := re.fullmatch(rf"(?:the\s)?({'|'.join(_ORDINALS)}|last|\d{{1,4}}(?:st|nd|rd|th))(?:\s{_NOUN})?", word):
        return _from_ordinal(ordinal.group(1), images)
    return None


def items(text: str) -> list[str]:
    """Split a list written as `a, b`, `[a, b]`, `a -> b`, `a then b`, or as bare numbers or letters with spaces."""
    body = text.strip().strip("[](){}.").strip()
    parts = [part.strip().strip("\"'`") for part in _SEPARATOR.split(body)]
    if len(parts) == 1 and re.fullmatch(r"(?:\d{1,4}|[A-Za-z])(?:\s+(?:\d{1,4}|[A-Za-z]))+", body):
        parts = body.split()
    return [part for part in parts if part]


def _numbers(text: str) -> list[tuple[int, int, int]]:
    """Return the numbers after `image` as (start, end, number), with those that follow in `images 1, 2 and 3`."""
    numbers = []
    for match in _NUMBERED.finditer(text):
        numbers.append((match.start(), match.end(), int(match.group(1) or match.group(2))))
        more = _MORE.match(text, match.end())
        while more:
            numbers.append((more.start(1), more.end(), int(more.group(1))))
            more = _MORE.match(text, more.end())
    return numbers


def _names(text: str, name: str) -> Iterator[re.Match[str]]:
    word = re.escape(name)
    return re.finditer(
        rf"<image:{word}[>|]|\b{_NOUN}[\s:]{{1,2}}[\"'`]?{word}(?!\w)|[\"'`]{word}[\"'`]|\bthe {word} {_NOUN}\b",
        text,
        re.IGNORECASE,
    )


def _from_number(number: int, images: Sequence[ImageInfo]) -> int:
    return number - 1 if 1 <= number <= len(images) else -1


def _from_ordinal(word: str, images: Sequence[ImageInfo]) -> int:
    if word == "last":
        return _from_number(len(images), images)
    number = int(word[:-2]) if word[0].isdigit() else _ORDINALS.index(word) + 1
    return _from_number(number, images)
