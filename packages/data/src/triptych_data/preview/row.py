"""One row of a dataset as the page shows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from triptych_data import DataError, Example, ImageError, ImageSource
from triptych_data.budget import Size
from triptych_data.header import ImageHeader


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewImage:
    """Describes one image of a row; `error` says why it cannot be used."""

    source: ImageSource
    header: ImageHeader | None = None
    error: ImageError | None = None
    model_size: Size | None = None
    """(height, width) as the vision tower sees it; None where that is not known."""
    tokens: int | None = None
    notes: tuple[str, ...] = ()
    """What is odd about it though a run reads it."""

    @property
    def size(self) -> Size | None:
        """(height, width) as decoded."""
        return None if self.header is None else (self.header.height, self.header.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class WithTools:
    """Contains a row to which the list of the tools that its model may call was added."""

    example: Example
    """The row with the list, as its tokens are counted."""
    listed: str
    """The list: as it is in a message, or one description on each line for the chat template to write."""
    message: str
    """The message that contains it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewRow:
    """Contains a row as far as it can be read; `refused` is the error with which a run would refuse it."""

    source: str
    id: str
    """Empty for a row without one."""
    values: Mapping[str, Any] | None = None
    """The row as it is; None where the file cannot even be read there."""
    example: Example | None = None
    """The row's prompt, bound to its images; None where none could be made."""
    images: tuple[PreviewImage, ...] = ()
    tokens: tuple[int, int] | None = None
    """(image tokens, all tokens) of the prompt."""
    refused: DataError | None = None
    notes: tuple[str, ...] = ()
    """What is odd about its prompt or answer though a run takes it."""
    trained: tuple[str, ...] | None = None
    """What `sft` trains of each turn of the assistant, as its tokens read; None where that was not asked for."""
    repeats: str | None = None
    """file:line of the earlier row that it repeats."""
    with_tools: WithTools | None = None
    """The row with its list of tools; None where there are no tools."""
