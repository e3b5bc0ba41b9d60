"""The names of columns that nobody reads and that look like input: texts, options, limits, tools."""

from __future__ import annotations

import functools
import re

from triptych_data.formats.columns import (
    ANSWERS,
    CONVERSATIONS,
    IMAGES,
    LABELS,
    OPTIONS,
    PIXELS,
    QUESTIONS,
    SYSTEM,
)
from triptych_data.formats.media import media_kind

TOOLS = re.compile(
    r"(available[_ ]?)?(tool|function)s?([_ ]?(call|schema|def|definition|list|info|description)s?)?", re.IGNORECASE
)
SYSTEM_TEXT = re.compile(r"sys(tem)?[ _-]?(prompt|message|msg|instruction|text|content)?s?", re.IGNORECASE)
TEXTS = re.compile(
    r"((\w+_)?instruction|input|(\w+_)?context|ctx|passage|premise|hint|task_?prompt|"
    r"article|document|paragraph|background|persona|preamble|knowledge|fact|story|distractor|"
    r"distractor_?[0-9]?|(wrong|incorrect)_(answer|option|choice)s?_?[0-9]?|few_?shot|demonstration|demo|few_?shot_example|in_?context_example|(pre|post)_?prompt|prompt_template|"
    r"(sub|second|next|other|user|format)_?(question|problem|query|prompt)|(question|problem|query|prompt)s?_?[2-9]|"
    r"table|(previous|past|prior|earlier|last)_?(action|step|turn)|"
    r"((prompt|question|query|problem)_?)?(prefix|suffix))s?|"
    r"((action|step|chat|dialog|dialogue|conversation)_?)?history",
    re.IGNORECASE,
)
FURTHER_TEXTS = re.compile(
    r"(questions|(question|prompt|input)_text|(question|prompt)_with_(option|choice)|full_(question|prompt)|"
    r"(option|choice)s?_?(text|str|string)|follow_?up(_question)?|sentence|lecture|goal|objective|scenario|"
    r"task_description|rule|condition|constraint|requirement|guideline|statement|claim|hypothesis|hypotheses|"
    r"(answer|output|response)_format|dialog|dialogue|utterance)s?",
    re.IGNORECASE,
)
"""Names of texts that may also be a short word about a row: they count where they have several words."""
CAPTIONS = re.compile(
    r"((image|img|picture|photo)s?_?)?(caption|alt(_?text)?|description|title|ocr(_text)?)s?|"
    r"(image|img|picture|photo)s?_?texts?",
    re.IGNORECASE,
)
"""Names of lists with one text for each of several images."""
IMAGE_ORDER = re.compile(
    r"(image|img|picture|photo)s?_?(order|permutation)|(order|permutation)_of_images", re.IGNORECASE
)
IMAGE_COUNT = re.compile(
    r"(n|num|number_of)_?(image|img|picture|photo)s?|(image|img|picture|photo)s?_count", re.IGNORECASE
)
PICTURE_ID = re.compile(r"(image|img|picture|photo|screenshot)_?(id|name|key|file)s?", re.IGNORECASE)
CHANGES = re.compile(
    r"(image_?)?crop(_?(box|bbox|region|area))?|rotate(_?angle)?|rotation(_?(angle|degrees))?|flip|resize",
    re.IGNORECASE,
)
FOLDER = re.compile(
    r"(image|img|picture|photo|media)s?_?(folder|dir|directory|root|base|base_?path|root_?path)|data_path",
    re.IGNORECASE,
)
OPTION = re.compile(r"[A-H]|op[a-h]|opt_?[a-h1-9]|(option|choice|mc)s?_?([a-h]|[0-9])|answer_[a-h]", re.IGNORECASE)
LIMITS = re.compile(
    r"resized_?(height|width)|((image|video)_)?(min|max)_?pixels|(min|max)_image_pixels|total_pixels|image_resolution|"
    r"(mm_processor|processor|images?)_kwargs|(min|max)_dynamic_patch|max_slice_nums|max_num_tiles",
    re.IGNORECASE,
)
IS_IMAGE = re.compile(
    r"(?!(num|n|has|is|total|max|min|no|use|with|per|count)_)([A-Za-z]+_)?(image|img|picture|photo|screenshot)s?_?\d*",
    re.IGNORECASE,
)
"""Names of images themselves, and not of what is known of them."""
_NAMES_OF_INPUT = (
    TOOLS,
    SYSTEM_TEXT,
    LIMITS,
    TEXTS,
    FURTHER_TEXTS,
    OPTION,
    PICTURE_ID,
    IS_IMAGE,
    CHANGES,
    FOLDER,
    IMAGE_COUNT,
)
_LOOKED_FOR = {
    *(*CONVERSATIONS, *QUESTIONS, *IMAGES, *ANSWERS, *LABELS, *SYSTEM, *OPTIONS, *PIXELS),
    *("id", "history", "objects", "reward_model", "data_type", "chat_template_kwargs"),
}
_MEANT = {name.lower(): name for name in (*CONVERSATIONS, *QUESTIONS, *OPTIONS) if name != "message"}


def meant(name: str) -> str | None:
    """Return the column that is meant by a name with other capitals, hyphens or spaces: `Options`, `answer-choices`."""
    known = _MEANT.get(plain_name(name).lower())
    return None if known == name else known


def plain_name(name: str) -> str:
    """Return a name with `_` for spaces, hyphens and dots: `task-instruction` is `task_instruction`."""
    return re.sub("[ .-]+", "_", name)


@functools.lru_cache(maxsize=4096)  # the same columns in every row
def is_free_name(name: object) -> bool:
    """Return whether a column has a name that no reader of rows looks for, and that would be refused for no text or
    number.
    """
    if not isinstance(name, str) or name in _LOOKED_FOR or media_kind(name) is not None:
        return False
    return meant(name) is None and not any(form.fullmatch(plain_name(name)) for form in _NAMES_OF_INPUT)
