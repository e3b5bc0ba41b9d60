"""Build the page: rows are read, their pictures embedded and their JSON written window by window, then let go."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from triptych_data.describe import describe
from triptych_data.inspect_row import FurtherLook
from triptych_data.limit import num_first
from triptych_data.model_tokens import ModelTokens
from triptych_data.pages import rendered_page
from triptych_data.preview.collecting import Source, Trained, shown_rows, with_decode_errors
from triptych_data.preview.counting import written
from triptych_data.preview.embedding import Pictures, Started, side_for
from triptych_data.preview.panels import panels_html
from triptych_data.preview.payload import Payload, index_json
from triptych_data.preview.row import PreviewRow
from triptych_data.preview.summary import Summary
from triptych_data.progress import Reporter
from triptych_data.prompt_settings import PromptSettings
from triptych_data.write_whole import write_whole

WINDOW_ROWS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """Names a page that was written, and the numbers of its content."""

    page: Path
    summary: Summary
    total: int
    """Rows in the files."""
    pictures_left_out: int


def build_preview(
    sources: Sequence[Source],
    out: Path,
    *,
    model: ModelTokens | None = None,
    settings: PromptSettings | None = None,
    trained: Trained | None = None,
    further: FurtherLook | None = None,
    made: Sequence[tuple[str, str]] = (),
    title: str = "",
    limit: int = 0,
    max_bytes: int = 64 << 20,
    threads: int = 2,
    reporter: Reporter | None = None,
) -> Preview:
    """Write the page.

    Args:
        sources: of the rows, in order.
        out: where to write.
        model: counts tokens; without one only source sizes are shown.
        settings: how a run makes prompts of rows, and which images it may read.
        trained: says what `sft` trains of each row.
        further: looks at every row that is refused for nothing else, such as at its expected answer.
        made: how the page was made, as pairs of term and text.
        title: of the page.
        limit: look at so many rows; 0 for all.
        max_bytes: of embedded pictures.
        threads: that decode pictures.
        reporter: is told how far it is.

    Raises:
        DataError: a file fails while it is read; refused rows are shown and do not raise.
        OSError: the page cannot be written.
    """
    reporter, settings = reporter or Reporter(quiet=True), settings or PromptSettings()
    total = sum(len(source.rows) for source in sources)
    num_rows = num_first(total, limit)
    found = _windows(shown_rows(sources, model=model, settings=settings, further=further, trained=trained, limit=limit))
    first = next(found, [])
    summary, payload = Summary(), Payload()
    sizes = [size for row in first for image in row.images if (size := image.model_size or image.size)]
    side = side_for(sizes, num_images=len(sizes) * num_rows // max(len(first), 1), max_bytes=max_bytes)
    with (
        Pictures(max_bytes=max_bytes, side_pixels=side, threads=threads, policy=settings.policy) as pictures,
        reporter.stage("preview", num_rows) as bar,
    ):
        for window in _pictured(chain([first], found), pictures):
            for row in window:
                summary.add(row)
                payload.add(row, pictures)
            bar.advance(len(window), status=f"{summary.images:,} images, {summary.refused:,} refused")
        limits: tuple[int | None, int | None] = (None, None)
        if model is not None:
            limits = settings.max_prompt_tokens, settings.max_prompt_image_tokens
            made = [*made, *_written(first, model, settings)]
        page = _page(summary, payload, pictures, limits=limits, made=made, title=title, total=total)
        write_whole(out, page)
    return Preview(page=out, summary=summary, total=total, pictures_left_out=pictures.left_out)


def _windows(rows: Iterable[PreviewRow]) -> Iterator[list[PreviewRow]]:
    window: list[PreviewRow] = []
    for row in rows:
        window.append(row)
        if len(window) == WINDOW_ROWS:
            yield window
            window = []
    if window:
        yield window


def _pictured(found: Iterable[list[PreviewRow]], pictures: Pictures) -> Iterator[list[PreviewRow]]:
    """The rows with their pictures embedded; while those of a window are made, the next rows are read."""
    waiting: tuple[list[PreviewRow], list[Started]] = ([], [])
    for window in chain(found, [[]]):
        begun = pictures.start(image for row in window for image in row.images)
        rows, started = waiting
        pictures.settle(started)
        if rows:
            yield [with_decode_errors(row, pictures.errors) for row in rows]
        waiting = window, begun


def _written(rows: Iterable[PreviewRow], model: ModelTokens, settings: PromptSettings) -> Iterator[tuple[str, str]]:
    """The first prompt that could be counted, as its tokens read, with what the chat template puts around it."""
    for row in rows:
        if row.example is not None and row.tokens is not None:
            sizes = [image.size for image in row.images if image.size]
            example = row.example if row.with_tools is None else row.with_tools.example
            prompt = describe(example, model=model, settings=settings, sizes=sizes)
            yield f"tokens of {row.source.rpartition('/')[2]}", written(prompt, model)
            return


def _page(
    summary: Summary,
    payload: Payload,
    pictures: Pictures,
    *,
    limits: tuple[int | None, int | None],
    made: Sequence[tuple[str, str]],
    title: str,
    total: int,
) -> Iterator[bytes]:
    blocks = {"rows": payload.rows.finish(), "pictures": pictures.kept.finish()}
    facts = summary.facts(total=total, pictures_left_out=pictures.left_out)
    pieces = rendered_page(
        "triptych_data.preview",
        "preview",
        scripts=["card"],
        title=title,
        facts=facts,
        made=made,
        panels=panels_html(summary, limits=limits),
        index=index_json(payload, pictures, limits=limits),
        blocks=[(f"{name}-{k}", text) for name, texts in blocks.items() for k, text in enumerate(texts)],
    )
    # Half of a character that JSON writes as two cannot be encoded: it becomes a question mark.
    return (piece.encode("utf-8", "replace") for piece in pieces)
