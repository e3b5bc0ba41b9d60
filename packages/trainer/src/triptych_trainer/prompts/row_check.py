"""The checks of a row that can be read: that the model takes it, and that a completion can match its answer."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import transformers
from triptych_data import Example
from triptych_data.budget import Size
from triptych_data.checked import RowCheck
from triptych_data.describe import count_images, describe
from triptych_data.generation_prompt import check_generation_prompt
from triptych_data.message_keys import has_keys
from triptych_data.model_tokens import ModelTokens
from triptych_data.prompt_settings import PromptSettings
from triptych_data.remembered import digest_of, states_of

from triptych_trainer.prompts.expected import answer_checks, check_answer

__all__ = ["name_of_check", "processor_digest", "row_check_of"]

Rewards = Mapping[str, Callable[..., Any]]
_OWN_CODE = "triptych_trainer."


def row_check_of(
    processor: Any, settings: PromptSettings, *, rewards: Rewards, environments: Sequence[str] = ()
) -> RowCheck:
    """Return the check of rows for a model under the settings of a run; ``rewards`` by their names on the command line.

    With ``environments`` each row has to name one of them.

    Rows are counted from headers as ``triptych check`` counts them. Without a limit on tokens only the images are
    counted, each size once, which is much cheaper than their prompts; of the rows with images and of those without
    the first prompt is written as well, so that a chat template that cannot write them is refused at the start. So is
    every prompt whose messages say more than their content.

    Raises:
        UsageError: the chat template does not begin the answer, or begins it twice.
    """
    check_generation_prompt(processor, settings.chat_template_kwargs)
    model = ModelTokens.of(processor)
    checks = answer_checks(list(rewards.values()))
    has_limit = settings.max_prompt_tokens is not None or settings.max_prompt_image_tokens is not None
    model_size_of: dict[Size, Size | None] = {}  # of every size that the model takes
    written: set[bool] = set()  # whether a prompt with images was written, and one without

    def model_sizes(example: Example, sizes: Sequence[Size]) -> Sequence[Size | None]:
        kind = bool(example.images)
        if has_limit or has_keys(example) or (kind not in written and any(example.prompt.pieces())):
            written.add(kind)
            return describe(example, model=model, settings=settings, sizes=sizes).accepted().images.model_sizes
        if any(image.has_limits for image in example.images):
            return count_images(example, model=model, settings=settings, sizes=sizes).model_sizes
        if not model_size_of.keys() >= set(sizes):
            counted = count_images(example, model=model, settings=settings, sizes=sizes)
            model_size_of.update(zip(sizes, counted.model_sizes, strict=True))
        return tuple(model_size_of[size] for size in sizes)

    def look(example: Example, sizes: Sequence[Size]) -> None:
        check_answer(example, sizes, model_sizes(example, sizes), checks=checks, environments=environments)

    return RowCheck(look=look, name=_name(processor, settings, rewards, environments))


def _name(processor: Any, settings: PromptSettings, rewards: Rewards, environments: Sequence[str]) -> str | None:
    """A digest of everything that the result depends on; None if code of the user or of the model may change it."""
    checks = {spec: check for spec, reward in rewards.items() for check in answer_checks([reward])}
    own = all(str(getattr(check, "__module__", "")).startswith(_OWN_CODE) for check in checks.values())
    return name_of_check(processor, repr(settings), sorted(checks), list(environments)) if own else None


def name_of_check(processor: Any, *parts: Any) -> str | None:
    """Return a digest of a processor, of the code here and of further parts, or None if code of the model may change
    it.
    """
    counting = processor_digest(processor)
    if counting is None:
        return None
    code = list(states_of(sorted(Path(__file__).parents[1].rglob("*.py"))))
    return digest_of(transformers.__version__, counting, *parts, code)


def processor_digest(processor: Any) -> str | None:
    """Return a digest of a processor's settings, template and tokenizer, or None if it is no class of transformers."""
    tokenizer = processor.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = [processor, tokenizer, getattr(processor, "image_processor", None)]
    if backend is None or not all(type(part).__module__.startswith("transformers.") for part in parts):
        return None
    known = [part.to_dict() for part in parts if hasattr(part, "to_dict")]
    templates = [processor.chat_template, tokenizer.chat_template, tokenizer.special_tokens_map]
    classes = [type(part).__qualname__ for part in parts]
    return digest_of(json.dumps([known, templates, classes], default=str, sort_keys=True), backend.to_str())
