"""Image expanders: what the processors of the model families write for an image, from its size alone."""

from triptych_parser.expanders.by_processor import EXPANDERS, expander_of, register_expander
from triptych_parser.expanders.expander import Expansion, ImageExpander, Sizes, token_expander

__all__ = [
    "EXPANDERS",
    "Expansion",
    "ImageExpander",
    "Sizes",
    "expander_of",
    "register_expander",
    "token_expander",
]
