"""Weights under the names that vLLM knows.

TRL sends every weight under its name in the trainer's model. transformers 5 has taken one level out of the vision
towers of CLIP and SigLIP, so that a weight is called ``vision_tower.embeddings...``; published folders and vLLM call it
``vision_tower.vision_model.embeddings...``, and vLLM refuses the shorter name.
"""

from collections.abc import Iterable, Iterator

import torch

__all__ = ["under_names_of_vllm"]

LEVEL = "vision_model"
"""The level that vLLM's towers have, and that transformers restores when it saves a model that was loaded with it."""
TOWERS = ("CLIPVisionModel", "SiglipVisionModel", "Siglip2VisionModel")


def under_names_of_vllm(
    named: Iterable[tuple[str, torch.Tensor]], model: torch.nn.Module
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the weights of a model, each under the name that vLLM knows; ``named`` gives them under their own names."""
    towers = _flat_towers(model)
    for name, tensor in named:
        tower = next((tower for tower in towers if name.startswith(f"{tower}.")), None)
        yield name if tower is None else f"{tower}.{LEVEL}{name.removeprefix(tower)}", tensor


def _flat_towers(model: torch.nn.Module) -> list[str]:
    """The paths of the towers in a model that lack the level."""
    return [path for path, part in model.named_modules() if type(part).__name__ in TOWERS and not hasattr(part, LEVEL)]
