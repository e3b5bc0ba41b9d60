"""What a model answers to a question of the page, with the tokens that it read."""

import base64
import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from types import SimpleNamespace
from typing import Any

from PIL import Image
from triptych_parser import ImageSpan

from triptych_trainer.chat.question import Question, example_of
from triptych_trainer.evaluation.sampling import Sampling, sampled_groups
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.prompts.image_info import image_infos
from triptych_trainer.prompts.prepare import PreparedPrompt, PromptPreparer
from triptych_trainer.rollouts.rollout import Rollout

__all__ = ["Answerer", "shown_tokens"]


@dataclass(slots=True, kw_only=True)
class Answerer:
    """Answers one question at a time with a model."""

    preparer: PromptPreparer
    sampling_for: Callable[[Any], Sampling]
    """Makes what samples, for an object with ``temperature`` and ``max_completion_length``."""
    _turn: Lock = field(default_factory=Lock)

    def answer(self, question: Question) -> dict[str, Any]:
        """Answer a question, as values of JSON.

        Raises:
            DataError: a run would refuse such a row.
            VerificationError: at the first question, the model differs from itself as transformers runs it.
        """
        example = example_of(question, self.preparer.settings)
        options = SimpleNamespace(
            temperature=question.temperature, max_completion_length=question.max_completion_length
        )
        with self._turn:
            begun = time.perf_counter()
            prompt = self.preparer(example)
            table = ExampleTable([example])
            (groups,) = sampled_groups(
                self.sampling_for(options), self.preparer, table=table, num_generations=1, batch_size=1
            )
            (said,) = groups[0].rollouts
            seconds = time.perf_counter() - begun
            return self._written(prompt, said, seconds)

    def _written(self, prompt: PreparedPrompt, said: Rollout, seconds: float) -> dict[str, Any]:
        tokenizer = self.preparer.processor.tokenizer
        sampled = [tokenizer.decode([token]) for token in said.ids]
        return {
            "prompt": shown_tokens(list(prompt.ids), prompt.spans, tokenizer.decode),
            "images": [
                {
                    "number": info.number,
                    "width": info.width,
                    "height": info.height,
                    "source": [info.source_width, info.source_height],
                    "seen": data_url(info.open()),
                }
                for info in image_infos(prompt)
            ],
            "num_prompt_tokens": len(prompt.ids),
            "answer": str(said.messages[-1]["content"]),
            "tokens": sampled,
            "finish": str(said.finish),
            "seconds": round(seconds, 2),
        }


def shown_tokens(ids: list[int], spans: tuple[ImageSpan, ...], decode: Callable[[list[int]], str]) -> list[Any]:
    """Return the prompt's tokens in order: a text for each, and one object for the feature rows of an image.

    An image that its family writes in several runs has an object for each, with the same number.
    """
    runs = {start: (span.image, length) for span in spans for start, length in span.runs}
    pieces: list[Any] = []
    place = 0
    while place < len(ids):
        if place in runs:
            image, length = runs[place]
            pieces.append({"image": image + 1, "start": place, "tokens": length})
            place += length
        else:
            pieces.append(decode([ids[place]]))
            place += 1
    return pieces


def data_url(picture: Image.Image) -> str:
    """Return a picture as a data URI."""
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
