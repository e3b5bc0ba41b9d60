"""A dataset as one self-contained page, before a run: prompts as the model gets them, with their tokens counted."""

from triptych_trainer.preview.build import Preview, build_preview

__all__ = ["Preview", "build_preview"]
