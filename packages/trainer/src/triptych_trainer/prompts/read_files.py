"""The rows of a command's data files, and which of them a model takes."""

from collections.abc import Callable, Sequence
from pathlib import Path

from triptych_data import DataError, Example, read_examples
from triptych_data.budget import Size
from triptych_data.describe import count_images, describe
from triptych_data.model_tokens import ModelTokens
from triptych_data.options import DataOptions, image_policy
from triptych_data.prompt_settings import PromptSettings
from triptych_data.quarantine import allowed, too_many, write_quarantined
from triptych_data.seen_headers import SeenHeaders, header_sizes

from triptych_trainer.prompts.expected import check_answer
from triptych_trainer.rewards.row import RowCheck

__all__ = ["read_files", "usable"]


def read_files(
    files: Sequence[str],
    roots: Sequence[Path | None],
    options: DataOptions,
    *,
    seen: SeenHeaders | None = None,
    quarantine: Path | None = None,
) -> list[Example]:
    """Read and check data files, each with its image folder; with ``--on_bad skip`` bad rows are left out and listed.

    ``seen`` remembers what the headers of the images say.

    Raises:
        DataError: a row that cannot be used, or more of them in a file than ``--max_bad`` allows.
    """
    return [
        example
        for file, root in zip(files, roots, strict=True)
        for example in read_examples(
            file,
            image_root=root,
            format=options.data_format,
            policy=image_policy(options),
            on_bad=options.on_bad,  # type: ignore[arg-type]
            max_bad=options.max_bad,
            quarantine=quarantine,
            seen=seen,
        )
    ]


def usable(
    examples: Sequence[Example],
    *,
    model: ModelTokens,
    settings: PromptSettings,
    options: DataOptions,
    checks: Sequence[RowCheck] = (),
    seen: SeenHeaders | None = None,
    quarantine: Path | None = None,
    progress: Callable[[int], object] = int,
) -> list[Example]:
    """The rows that the model takes under the settings, counted from headers as ``triptych check`` counts them.

    Without a limit on tokens only the images are looked at, each size once, which is much cheaper than their prompts.
    ``checks`` are what the run's rewards ask of expected answers.

    Raises:
        DataError: a row that the model cannot take, or whose answer no completion can meet; with ``--on_bad skip``,
            more of them than ``--max_bad`` allows.
    """
    kept, num_bad = [], 0
    model_size_of: dict[Size, Size | None] = {}  # of every size that the model takes
    limit = allowed(options.max_bad, len(examples))
    has_limit = settings.max_prompt_tokens is not None or settings.max_prompt_image_tokens is not None
    for number, example in enumerate(examples, start=1):
        try:
            sizes = header_sizes(example, policy=settings.policy, seen=seen)
            if has_limit:
                model_sizes = (
                    describe(example, model=model, settings=settings, sizes=sizes).accepted().images.model_sizes
                )
            elif any(image.has_limits for image in example.images):
                model_sizes = count_images(example, model=model, settings=settings, sizes=sizes).model_sizes
            else:
                if not model_size_of.keys() >= set(sizes):
                    counted = count_images(example, model=model, settings=settings, sizes=sizes)
                    model_size_of.update(zip(sizes, counted.model_sizes, strict=True))
                model_sizes = tuple(model_size_of[size] for size in sizes)
            check_answer(example, sizes, model_sizes, checks=checks)
            kept.append(example)
        except DataError as error:
            if options.on_bad == "stop" or error.kind == "io":
                raise
            num_bad += 1
            if quarantine is not None:
                write_quarantined(quarantine, error)
            if num_bad > limit:
                raise too_many(error, num_bad, total=len(examples), limit=limit) from error
        progress(number)
    return kept
