"""What a reward is told of a prompt's images."""

from triptych_trainer.prompts.prepare import PreparedPrompt
from triptych_trainer.rewards import ImageInfo

__all__ = ["image_infos"]


def image_infos(prompt: PreparedPrompt) -> list[ImageInfo]:
    """Name, annotation and sizes of each image of a prompt, in record order."""
    bound = prompt.example.prompt
    notes: dict[int, str | None] = {}
    for image, annotation in zip(bound.image_order, bound.annotations, strict=True):
        notes[image] = notes.get(image) or annotation
    sizes = zip(prompt.example.images, prompt.fed_sizes, prompt.image_sizes, strict=True)
    return [
        ImageInfo(
            index=k,
            name=source.name,
            annotation=notes.get(k),
            width=fed[1],
            height=fed[0],
            source_width=decoded[1],
            source_height=decoded[0],
        )
        for k, (source, fed, decoded) in enumerate(sizes)
    ]
