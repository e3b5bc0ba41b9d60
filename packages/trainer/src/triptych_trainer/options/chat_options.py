"""What ``triptych chat`` takes; importing it loads nothing heavy, so that its help is there at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from triptych_data.option_parser import OptionParser, add_options
from triptych_data.options import ModelOptions, TemplateOptions

__all__ = ["ChatOptions", "parser"]


@dataclass(kw_only=True)
class ChatOptions:
    """Contains the options that ``chat`` takes in addition to those of the model and of prompts."""

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "verify_model": ("on", "off"),
        "dtype": ("auto", "bfloat16", "float16", "float32"),
    }
    LEAST: ClassVar[Mapping[str, int]] = {"port": 0, "max_completion_length": 1, "temperature": 0}
    MOST: ClassVar[Mapping[str, int]] = {"port": 65_535}

    port: int = field(default=7860, metadata={"help": "port of the page on 127.0.0.1; 0: any free port"})
    temperature: float = field(default=0.0, metadata={"help": "temperature of sampling; 0 decodes greedily"})
    max_completion_length: int = field(default=512, metadata={"help": "most tokens of an answer"})
    family: str | None = field(
        default=None, metadata={"metavar": "CLASS", "help": "an adapter of your own for the model, as for train"}
    )
    dtype: str = field(default="auto", metadata={"help": "precision of the weights; auto: that of the checkpoint"})
    verify_model: str = field(
        default="on", metadata={"help": "compare with its own transformers forward, at the first question"}
    )


def parser() -> OptionParser:
    """Return the command's parser."""
    made = OptionParser(
        prog="triptych chat",
        usage="triptych chat MODEL [options]",
        description="Ask a model about several images, on a page of this machine: see the tokens, the places of the "
        "images, and the answer.",
        epilog="The page listens on 127.0.0.1 only, under an address that nobody can guess. Ctrl-C ends it.",
    )
    made.add_argument("model", metavar="MODEL", help="a folder (also of adapters) or a hub id")
    add_options(made, ModelOptions, title="the model, as for train")
    add_options(made, TemplateOptions, title="prompts, as for train")
    add_options(made, ChatOptions, title="the page and the answers")
    return made
