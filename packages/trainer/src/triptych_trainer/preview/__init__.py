"""A dataset as one self-contained page, before a run: prompts as the model gets them, with their tokens counted."""

from triptych_trainer.preview.build import Preview, build_preview
from triptych_trainer.preview.counting import PreviewError

__all__ = ["Preview", "PreviewError", "build_preview"]
