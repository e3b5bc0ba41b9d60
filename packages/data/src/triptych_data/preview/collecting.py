"""Every row of the files looked at as a run would; a row that it would refuse is kept with its error."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from triptych_data import DataError, Example, ImageError, ImagePolicy
from triptych_data.budget import Size
from triptych_data.describe import CountedPrompt, describe
from triptych_data.header import read_header
from triptych_data.inspect_row import FurtherLook, image_notes
from triptych_data.limit import num_first
from triptych_data.model_tokens import ModelTokens
from triptych_data.preview.counting import change
from triptych_data.preview.row import PreviewImage, PreviewRow, WithTools
from triptych_data.prompt_settings import PromptSettings
from triptych_data.read_row import row_reader
from triptych_data.rows import Rows, SourceRow, open_rows
from triptych_data.scan import row_digest
from triptych_data.seen_headers import image_in_example
from triptych_data.show import KINDS

SHRUNK, ENLARGED = "image shrunk", "image enlarged"
CAPPED = "images made smaller for the prompt's limit"
PUT_FIRST = "no marker, images put first"
AGAIN = "one image at several markers"
REPEATED = "row repeats an earlier one"
NO_ANSWER = "no reference answer"
REFUSED = "refused: "


Trained = Callable[[Example, Sequence[Size]], tuple[str, ...]]
"""What is trained of each turn of the assistant, given a conversation and the sizes of its images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Contains an opened file, and how its rows are read."""

    rows: Rows
    read: Callable[[SourceRow], Example]
    with_tools: Callable[[Example], WithTools | None] = lambda example: None
    """Adds the list of tools to a row; None where there are no tools."""
    has_environment: bool = False
    """Whether an environment adds images to the prompts, and says what a rollout was worth."""


def open_sources(
    files: Sequence[str],
    *,
    image_roots: Sequence[Path | None] = (),
    data_format: str = "auto",
    needs_prompt: bool = True,
) -> list[Source]:
    """Open the files; `image_roots` has the folder of each (None: next to the file), or nothing.

    Without ``needs_prompt`` an environment gives the tasks of rows that have no prompt.

    Raises:
        DataError: a file that cannot be read as rows.
    """
    return [
        Source(rows=open_rows(file), read=row_reader(root=root, format=data_format, needs_prompt=needs_prompt))
        for file, root in zip(files, image_roots or [None] * len(files), strict=True)
    ]


def shown_rows(
    sources: Sequence[Source],
    *,
    model: ModelTokens | None = None,
    settings: PromptSettings | None = None,
    further: FurtherLook | None = None,
    trained: Trained | None = None,
    limit: int = 0,
) -> Iterator[PreviewRow]:
    """Yield the rows of all sources in order, at most `limit` of them (0: all); `model` counts their tokens.

    `trained` says what `sft` trains of the rows, which are then whole conversations. `further` looks at those that are
    refused for nothing else, and raises DataError where a run would refuse them.
    """
    settings = settings or PromptSettings()
    first: dict[int, str] = {}
    places = ((source, index) for source in sources for index in range(len(source.rows)))
    total = sum(len(source.rows) for source in sources)
    for source, index in islice(places, num_first(total, limit)):
        try:
            row = source.rows.row(index)
        except DataError as error:
            yield PreviewRow(source=error.source, id=error.id or "", refused=error)
            continue
        yield _looked_at(row, source, model, settings, further, trained, first)


def _looked_at(
    row: SourceRow,
    source: Source,
    model: ModelTokens | None,
    settings: PromptSettings,
    further: FurtherLook | None,
    trained: Trained | None,
    first: dict[int, str],
) -> PreviewRow:
    try:
        example = source.read(row)
        tools = source.with_tools(example)
    except DataError as error:
        return PreviewRow(source=row.source, id=error.id or "", values=row.values, refused=error)
    images, refused = _images(example, settings.policy)
    sizes = [image.size for image in images if image.size]
    prompt = None
    if model is not None and refused is None:
        try:
            counted = example if tools is None else tools.example
            prompt = describe(counted, model=model, settings=settings, sizes=sizes)
            images = [_counted(image, k, prompt, model) for k, image in enumerate(images)]
            refused = prompt.refused
        except DataError as error:
            refused = error
    if further is not None and refused is None:
        try:
            further(example, sizes, (None,) * len(sizes) if prompt is None else prompt.images.model_sizes)
        except DataError as error:
            refused = error
    said: tuple[str, ...] | None = None
    if trained is not None and refused is None:
        try:
            said = trained(example, sizes)
        except DataError as error:
            refused = error
    earlier = first.setdefault(row_digest(example, with_columns=source.has_environment), example.source)
    repeated = earlier != example.source
    return PreviewRow(
        source=example.source,
        id="" if example.id == example.source else example.id,
        example=example,
        images=tuple(images),
        tokens=None if prompt is None else (prompt.num_image_tokens, prompt.num_tokens),
        refused=refused,
        trained=said,
        notes=(
            *_notes(example, prompt, asks_answer=trained is None, has_environment=source.has_environment),
            *([REPEATED] if repeated else []),
        ),
        repeats=earlier if repeated else None,
        with_tools=tools,
    )


def _images(example: Example, policy: ImagePolicy) -> tuple[list[PreviewImage], DataError | None]:
    """The images by their headers, and the error of the first that cannot be used."""
    images: list[PreviewImage] = []
    refused: DataError | None = None
    for number, source in enumerate(example.images, start=1):
        try:
            header = read_header(source, policy=policy)
            images.append(PreviewImage(source=source, header=header, notes=tuple(image_notes(header))))
        except ImageError as error:
            images.append(PreviewImage(source=source, error=error))
            refused = refused or image_in_example(error, example, source, number)
    return images, refused


def _counted(image: PreviewImage, k: int, prompt: CountedPrompt, model: ModelTokens) -> PreviewImage:
    assert image.size is not None
    model_size = prompt.images.model_sizes[k]
    note = {"shrunk": (SHRUNK,), "enlarged": (ENLARGED,), None: ()}[change(image.size, model_size, model=model)]
    return replace(image, model_size=model_size, tokens=prompt.images.tokens[k], notes=(*note, *image.notes))


def _notes(
    example: Example, prompt: CountedPrompt | None, *, asks_answer: bool, has_environment: bool
) -> Iterator[str]:
    if prompt is not None and prompt.images.capped:
        yield CAPPED
    markers = example.prompt.prompt.markers
    # A marker that is in no text and is no part was put there because the prompt had none.
    if markers and not has_environment and all(marker.structured is None and marker.end == 0 for marker in markers):
        yield PUT_FIRST
    if len(markers) > len(example.images):
        yield AGAIN
    if asks_answer and not has_environment and example.answer is None:
        yield NO_ANSWER


def with_decode_errors(row: PreviewRow, errors: Mapping[Hashable, ImageError]) -> PreviewRow:
    """Return the row with the images marked that do not decode; it is refused for the first of them as `check`
    does.
    """
    if row.example is None or not any(image.source.key in errors for image in row.images):
        return row
    images = tuple(replace(image, error=image.error or errors.get(image.source.key)) for image in row.images)
    number, broken = next((k, image) for k, image in enumerate(images, start=1) if image.error)
    assert broken.error is not None
    refused = row.refused or image_in_example(broken.error, row.example, broken.source, number)
    return replace(row, images=images, refused=refused)


def problems_of(row: PreviewRow) -> list[str]:
    """Return every problem of a row by its name, each once, with that of a refused row first."""
    found = [REFUSED + KINDS.get(row.refused.kind, row.refused.kind)] if row.refused else []
    found += [note for image in row.images for note in image.notes]
    return list(dict.fromkeys([*found, *row.notes]))
