"""Tools ready to use, for ``--tools triptych_trainer.tools:zoom`` or ``tools=[zoom, mark]``.

Boxes are in thousandths of an image's width and height. `triptych_trainer.tools.pixels` holds the same tools with boxes
in pixels of the image as the model saw it.
"""

from triptych_trainer.tools.pictures import picture_tools

_TOOLS = picture_tools("thousandths")
zoom, crop, rotate, mark = (_TOOLS[name] for name in ("zoom", "crop", "rotate", "mark"))

__all__ = ["crop", "mark", "rotate", "zoom"]
