"""The columns that every format reads, the names that each of them may have, and which of a row's were read."""

from __future__ import annotations

import ast
import io
import itertools
import json
import re
import tokenize
from collections.abc import Iterable, Mapping
from typing import Any

CONVERSATIONS = ("messages", "conversations", "conversation", "message")
QUESTIONS = ("prompt", "problem", "question", "query")
IMAGES = (
    "images",
    "image",
    "image_path",
    "image_paths",
    "image_list",
    "image_url",
    "image_urls",
    "img",
    "imgs",
    "path",
)
ANSWERS = ("answer", "solution", "ground_truth", "response", "completion")
# Names that may mean other things too: they count where no other column and no turn gives an answer.
LABELS = (
    *("gt", "label", "target", "answers", "gt_answer", "gold_answer", "correct_answer", "reference_answer"),
    *("expected_answer", "final_answer", "ref_answer", "standard_answer", "answer_key", "answerKey", "gold"),
)
SYSTEM = ("system", "system_prompt", "system_message", "system_instruction")
OPTIONS = (
    "options",
    "choices",
    "answer_choices",
    "answer_options",
    "multiple_choices",
    "mc_options",
    "candidate_answers",
    "endings",
    *("option", "option_list", "options_list", "choice_list", "choices_list", "candidates", "mc"),
    *("choice_texts", "option_texts", "all_choices", "multiple_choice_options", "possible_answers"),
)
PIXELS = ("min_pixels", "max_pixels")

_LONGEST_LITERAL = 1_000_000
# Keys of a message or part that change what a model sees, also where they are numbers: sizes, tiles, frames, cuts.
_CHANGES = re.compile(
    r"(raw_|sample_|video_|frame_)?fps|n_?frames|(num|min|max|total)_?(frames|segments|tiles|patches|crops|slices)|"
    r"(video|frame|clip|image)_(start|end|rate|interval|stride|step)(_time|_frame|_seconds)?|start_(time|frame)|"
    r"end_(time|frame)|((image|video)_)?(min|max|total)_?pixels|(min|max)_image_pixels|resized_\w+|"
    r"(max|min)_?(num|dynamic_patch|slice_nums|num_tiles|image_size|tokens_per_image)|"
    r"(image_|use_|dynamic_)?(resolution|image_size|longest_edge|shortest_edge|thumbnail)|(do_)?(crop|resize|rotate)|"
    r"rotation|flip|use_image_id|image_(seq_len|seqlen|tokens)|do_sample_frames|continue_final_message|"
    r"add_generation_prompt|enable_thinking",
    re.IGNORECASE,
)
_ADJACENT = re.compile(r"""['"]\s*['"]""")
# Keys of a message or part whose texts say where it comes from or how it is weighed, and are no part of what is said.
_DESCRIPTIONS = {
    "id", "uid", "index", "type", "name", "annotation", "loss", "weight", "train", "lang", "language", "model",
    "generator", "source", "time", "timestamp", "date", "score", "rating", "label", "tag", "tags", "cache_control",
}  # fmt: skip


class Columns:
    """Keeps account of which columns of a row were read; the others go to rewards, or the row is refused."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.row = row
        self.read = {"id"}
        self.origins: set[str] = set()
        """Columns that only say where the images of the row come from."""

    def given(self, names: Iterable[str]) -> dict[str, Any]:
        """Return those of the columns `names` that contain a value, in that order; all of them count as read."""
        row, found = self.row, {}
        for name in names:
            if name in row:
                self.read.add(name)
                if not is_empty(value := row[name]):
                    found[name] = value
        return found

    def unread(self) -> dict[str, Any]:
        """Return the columns that nobody has read."""
        return {name: value for name, value in self.row.items() if name not in self.read}


def is_empty(value: object) -> bool:
    """Return whether a column says nothing: null, empty, or an Arrow struct of nulls."""
    if value is None or isinstance(value, (str, list, tuple)):
        return not value
    return isinstance(value, Mapping) and all(inner is None for inner in value.values())


def is_nan(value: object) -> bool:
    """Return whether a value is NaN, which pandas writes for null."""
    return isinstance(value, float) and value != value


def is_change(key: str) -> bool:
    """Return whether a key of a message or part says how something is to be seen, as `fps` and `max_pixels` do."""
    return _CHANGES.fullmatch(key) is not None


def may_be_input(key: str, value: object) -> bool:
    """Return whether an unknown key of a message or part may contain something to be read: texts, lists, mappings, and
    numbers that say how something is to be seen.
    """
    if is_change(key):
        return value is not None and value is not False
    return isinstance(value, (str, bytes, list, tuple, Mapping)) and not is_empty(value) and key not in _DESCRIPTIONS


def literal(text: str) -> Any:
    """Return the value that a text writes as JSON or as a Python literal, or None if it writes neither."""
    if len(text) > _LONGEST_LITERAL:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        found = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    return None if _ADJACENT.search(text) and _joins_texts(text.strip()) else found


def _joins_texts(text: str) -> bool:
    """Return whether two texts have no comma between them, as numpy prints a list: Python would make them one."""
    kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type != tokenize.NL]
    return (tokenize.STRING, tokenize.STRING) in itertools.pairwise(kinds)


def listed_text(value: object) -> object:
    """Return `value`, or the list or mapping that a string writes as JSON or as a Python literal."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{") and value:
        found = literal(value)
        return value if found is None else found
    return value
