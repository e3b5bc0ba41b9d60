"""`triptych preview FILE...`: a dataset as one page, before a run."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from triptych_data import ImagePolicy
from triptych_data.formats import FORMATS
from triptych_data.model_tokens import ModelTokens
from triptych_data.prompt_settings import PromptSettings

from triptych_trainer.commands.outcome import outcome
from triptych_trainer.monitor.progress import Reporter
from triptych_trainer.preview.build import Preview, build_preview
from triptych_trainer.preview.collecting import open_sources
from triptych_trainer.preview.counting import PreviewError

NEED_MODEL = ("min_pixels", "max_pixels", "max_prompt_image_tokens", "max_prompt_tokens")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when every row passes, 1 when a run would refuse some, 2 without a page and one line why."""
    options = options_parser().parse_args(argv)
    return outcome("triptych preview", lambda: _preview(options))


def _preview(options: argparse.Namespace) -> int:
    reporter = Reporter(quiet=options.quiet)
    preview = _build(options, reporter)
    _conclude(preview, reporter)
    return 1 if preview.summary.refused else 0


def options_parser() -> argparse.ArgumentParser:
    """What the command takes."""
    parser = argparse.ArgumentParser(
        prog="triptych preview",
        description="Write one self-contained page that shows a dataset's prompts as a model gets them.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="JSONL, JSON, parquet or tar files, or saved datasets")
    add(
        "--image_root",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="folder of the image paths, one or one per file",
    )
    add("--data_format", default="auto", choices=["auto", *FORMATS], help="row format (default: by its columns)")
    add("--allow_outside", type=Path, nargs="+", default=[], metavar="DIR", help="further folders images may lie in")
    add("--allow_remote", action="store_true", help="read images at addresses")
    add("--model", metavar="DIR", help="count with this model's processor and chat template (a folder or a hub name)")
    add("--min_pixels", type=int, metavar="N", help="fewest pixels an image is resized to (needs --model)")
    add("--max_pixels", type=int, metavar="N", help="most pixels an image is resized to (needs --model)")
    add("--max_prompt_image_tokens", type=int, metavar="N", help="for all images of a prompt together (needs --model)")
    add("--max_prompt_tokens", type=int, metavar="N", help="refuse prompts of more tokens (needs --model)")
    add(
        "--chat_template_images",
        default="exact",
        choices=["exact", "inline", "template"],
        help="what to do with a chat template that moves images, as for train",
    )
    add("--limit", type=int, default=10_000, metavar="N", help="only the first rows (default: %(default)s, 0 for all)")
    add("--max_megabytes", type=float, default=64, metavar="N", help="embedded pictures at most (default: %(default)s)")
    add("--threads", type=int, default=min(8, os.cpu_count() or 1), metavar="N", help="that decode pictures")
    add(
        "-o",
        "--out",
        type=Path,
        default=Path("preview.html"),
        metavar="PAGE",
        help="page to write (default: %(default)s)",
    )
    add("--quiet", action="store_true", help="only the last line")
    return parser


def _build(options: argparse.Namespace, reporter: Reporter) -> Preview:
    given = [name for name in NEED_MODEL if getattr(options, name) is not None]
    if options.model is None and given:
        raise PreviewError(f"--{given[0]} needs --model, whose processor does the counting")
    for name, least in (("limit", 0), ("max_megabytes", 0), ("threads", 1)):
        if getattr(options, name) < least:
            raise PreviewError(f"--{name} expects {least} or more, got {getattr(options, name)}")
    settings = PromptSettings(
        max_prompt_image_tokens=options.max_prompt_image_tokens,
        max_prompt_tokens=options.max_prompt_tokens,
        chat_template_images=options.chat_template_images,
        policy=ImagePolicy(allow_outside=tuple(options.allow_outside), allow_remote=options.allow_remote),
    )
    sources = open_sources(options.files, image_roots=options.image_root, data_format=options.data_format)
    names = [Path(file).name for file in options.files]
    return build_preview(
        sources,
        options.out,
        model=_model(options),
        settings=settings,
        made=_made(options),
        title=names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more",
        limit=options.limit,
        max_bytes=int(options.max_megabytes * 2**20),
        threads=options.threads,
        reporter=reporter,
    )


def _model(options: argparse.Namespace) -> ModelTokens | None:
    if options.model is None:
        return None
    from triptych_trainer.commands.train import (
        quiet_libraries,  # brings torch, which a page without a model does without
    )
    from triptych_trainer.models.load import load_processor

    quiet_libraries()
    limits = {"min_pixels": options.min_pixels, "max_pixels": options.max_pixels}
    return ModelTokens.of(load_processor(options.model, **limits, option="--model"))


def _made(options: argparse.Namespace) -> list[tuple[str, str]]:
    """The options that say what is shown, as they were given."""
    found = [("files", " ".join(options.files)), ("image root", " ".join(map(str, options.image_root)))]
    found.append(("model", options.model or "none: images at their source size, no tokens"))
    found += [(f"--{name}", "" if (value := getattr(options, name)) is None else f"{value:,}") for name in NEED_MODEL]
    return [(term, text) for term, text in found if text]


def _conclude(preview: Preview, reporter: Reporter) -> None:
    summary = preview.summary
    for problem, rows in summary.ordered_problems():
        reporter.say(f"  {rows:,} {'row' if rows == 1 else 'rows'}: {escape(problem)}")
    if preview.pictures_left_out:
        reporter.say(f"  {preview.pictures_left_out:,} images are named but not embedded: raise --max_megabytes")
    if summary.rows < preview.total:
        reporter.say(f"  the first {summary.rows:,} of {preview.total:,} rows: raise --limit")
    size = preview.page.stat().st_size / 2**10
    words = f"{summary.rows:,} rows, {summary.images:,} images, {summary.refused:,} would be refused"
    reporter.conclude(f"preview: {escape(str(preview.page))} ({words}, {_in_words(size)})")


def _in_words(kilobytes: float) -> str:
    return f"{kilobytes:,.0f} kB" if kilobytes < 1000 else f"{kilobytes / 2**10:,.1f} MB"
