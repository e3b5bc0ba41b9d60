"""Interleaved image prompts: markers to ordered segments to token ids and image spans."""

from triptych_parser.bind import BoundPrompt, bind
from triptych_parser.dialects import DIALECTS, Dialect
from triptych_parser.errors import MarkerError, Refusal
from triptych_parser.parse import parse
from triptych_parser.prompt import ImageMarker, Prompt, Text, Turn
from triptych_parser.render import Converted, convert, render
from triptych_parser.spans import ImageSpan, TokenizedPrompt
from triptych_parser.tokenize import tokenize, tokenize_batch
from triptych_parser.verify import check_processor

__all__ = [
    "DIALECTS",
    "BoundPrompt",
    "Converted",
    "Dialect",
    "ImageMarker",
    "ImageSpan",
    "MarkerError",
    "Prompt",
    "Refusal",
    "Text",
    "TokenizedPrompt",
    "Turn",
    "bind",
    "check_processor",
    "convert",
    "parse",
    "render",
    "tokenize",
    "tokenize_batch",
]
