"""How a run turns a row into a prompt: the one value that every command and every pass counts by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from triptych_data.budget import Budget
from triptych_data.policy import DEFAULT_POLICY, ImagePolicy

TemplateImages = Literal["exact", "inline", "template"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSettings:
    """Contains the options of a run that decide which tokens and which pixels a row becomes.

    Pixel limits per image are not among them: they are the image processor's own, and `ModelTokens` sets them there.
    """

    max_prompt_image_tokens: int | None = None
    """At most so many tokens for all images of a prompt; larger images are made smaller first."""
    max_prompt_tokens: int | None = None
    """A prompt of more tokens, images included, is refused; nothing is ever cut."""
    chat_template_images: TemplateImages = "exact"
    """What to do with a chat template that moves images: refuse it, write them inline, or accept its places."""
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the chat template, such as `enable_thinking`."""
    policy: ImagePolicy = DEFAULT_POLICY
    """Which images may be read."""

    @property
    def budget(self) -> Budget:
        """What the images of one prompt may cost together."""
        return Budget(max_prompt_image_tokens=self.max_prompt_image_tokens)
