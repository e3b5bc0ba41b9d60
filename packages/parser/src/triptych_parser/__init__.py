"""Interleaved image prompts: markers to ordered segments to token ids and image spans."""

from triptych_parser.bind import BoundPrompt, bind
from triptych_parser.errors import MarkerError
from triptych_parser.parse import parse
from triptych_parser.prompt import ImageMarker, Prompt, Text, Turn
from triptych_parser.spans import ImageSpan, TokenizedPrompt
from triptych_parser.tokenize import tokenize, tokenize_batch

__all__ = [
    "BoundPrompt",
    "ImageMarker",
    "ImageSpan",
    "MarkerError",
    "Prompt",
    "Text",
    "TokenizedPrompt",
    "Turn",
    "bind",
    "parse",
    "tokenize",
    "tokenize_batch",
]
