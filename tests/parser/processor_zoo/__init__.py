"""Processors of the real families, built in code from small tokenizers and templates; nothing is downloaded."""

from processor_zoo.table import FAMILIES, MOVING, built

__all__ = ["FAMILIES", "MOVING", "built"]
