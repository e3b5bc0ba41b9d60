"""A question of the page, read from its JSON, as the row of a dataset would be."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from triptych_data import Example, read_examples
from triptych_data.prompt_settings import PromptSettings

from triptych_trainer.errors import UsageError

__all__ = ["Question", "example_of", "read_question"]

ROLES = ("system", "user", "assistant")
MOST_IMAGES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Contains what the page asks."""

    messages: list[dict[str, str]]
    """Their texts contain the image markers."""
    images: list[bytes]
    """Files, in the order of their numbers."""
    temperature: float
    max_completion_length: int


def read_question(body: bytes, *, temperature: float, max_completion_length: int) -> Question:
    """Read a question; raises UsageError on what the page would not send."""
    try:
        values = json.loads(body)
        messages = [
            {"role": str(message["role"]), "content": str(message["content"])} for message in values["messages"]
        ]
        images = [base64.b64decode(one, validate=True) for one in values["images"]]
        asked = float(values.get("temperature", temperature)), int(values.get("max_tokens", max_completion_length))
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise UsageError(
            "expected JSON with messages (role and content) and images (base64), "
            f"got {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        ) from error
    if not messages or messages[-1]["role"] != "user" or any(one["role"] not in ROLES for one in messages):
        raise UsageError(f"expected messages of {', '.join(ROLES)} that end with one of the user")
    if len(images) > MOST_IMAGES:
        raise UsageError(f"expected at most {MOST_IMAGES} images, got {len(images)}")
    if not 0 <= asked[0] <= 10 or not 1 <= asked[1] <= 32_768:
        raise UsageError(f"expected a temperature from 0 to 10 and 1 to 32768 tokens, got {asked[0]:g} and {asked[1]}")
    return Question(messages=messages, images=images, temperature=asked[0], max_completion_length=asked[1])


def example_of(question: Question, settings: PromptSettings) -> Example:
    """Return the question as a row; raise DataError if a run would refuse it, such as for a marker without image."""
    row: dict[str, Any] = {"id": "question", "messages": question.messages}
    if question.images:
        row["images"] = [{"bytes": data, "path": None} for data in question.images]
    return read_examples(Dataset.from_list([row]), policy=settings.policy, no_markers="first")[0]
