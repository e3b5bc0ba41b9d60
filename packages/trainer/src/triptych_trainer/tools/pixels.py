"""The tools of `triptych_trainer.tools` with boxes in pixels of the image as the model saw it."""

from triptych_trainer.tools.pictures import picture_tools

_TOOLS = picture_tools("pixels")
zoom, crop, rotate, mark = (_TOOLS[name] for name in ("zoom", "crop", "rotate", "mark"))

__all__ = ["crop", "mark", "rotate", "zoom"]
