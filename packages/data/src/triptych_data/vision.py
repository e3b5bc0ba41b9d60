"""What a model's image processor does to sizes: targets and token counts from headers, before any decode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from triptych_parser.expanders import Expansion, expander_of

from triptych_data.budget import Budget, Size, fit_sizes, smart_resize
from triptych_data.errors import ALL_IMAGES, ImageError, UsageError
from triptych_data.example import ImageSource

# Sizes at which a processor's own count must equal ours before its rule is taken for granted.
_TRIALS = ((28, 28), (1080, 1920), (3200, 1440), (37, 501), (2048, 2048), (5000, 60), (90, 4000), (333, 517))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTargets:
    """Contains for each image of a prompt its (height, width) as the model will see it, and what it costs.

    A size is None where the processor does its own resizing or tiling and the image goes to it as decoded.
    """

    sizes: tuple[Size | None, ...]
    tokens: tuple[int, ...]

    def total(self, markers: Sequence[int]) -> int:
        """Return the tokens over all markers, given the image that each one shows."""
        return sum(self.tokens[image] for image in markers)


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionSpec:
    """Contains a processor's rule for resizing.

    `factor` is the side of one token in pixels for processors that resize as Qwen2-VL's does, None for all others
    (tiles, fixed sizes): those are asked for their counts, and their images are handed over as decoded.
    """

    factor: int | None
    patch_size: int
    merge_size: int
    temporal_patch_size: int
    min_pixels: int
    max_pixels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rescale_factor: float
    processor: Any = field(default=None, repr=False, compare=False)

    @classmethod
    def from_processor(cls, processor: Any) -> VisionSpec:
        """Return the rule of a transformers processor or image processor, which is recognised by what it computes, not
        by its name.
        """
        image_processor = getattr(processor, "image_processor", processor)
        size = getattr(image_processor, "size", None) or {}
        patch, merge = _number(image_processor, "patch_size"), _number(image_processor, "merge_size")
        spec = cls(
            factor=patch * merge if patch and merge else None,
            patch_size=patch,
            merge_size=merge,
            temporal_patch_size=_number(image_processor, "temporal_patch_size"),
            min_pixels=int(_entry(size, "shortest_edge") or 1),
            max_pixels=int(_entry(size, "longest_edge") or 1),
            mean=tuple(getattr(image_processor, "image_mean", None) or ()),
            std=tuple(getattr(image_processor, "image_std", None) or ()),
            rescale_factor=float(getattr(image_processor, "rescale_factor", None) or 1 / 255),
            processor=processor,
        )
        return spec if spec._agrees_with(image_processor) else _replaced(spec)

    def targets(
        self,
        sizes: Sequence[Size],
        *,
        images: Sequence[ImageSource] = (),
        budget: Budget | None = None,
        markers: Sequence[int] | None = None,
    ) -> ImageTargets:
        """Return the sizes and token counts of one prompt's images, given their (height, width) as decoded.

        Limits: an image's own, else the budget's, else the processor's. An image whose row asks for a size
        (`resized`) is taken to have that size. `markers` says which image each marker of the
        prompt shows, from 0: an image takes its tokens at each of them. By default every image has one marker.
        Raises ImageError of kind shape or budget.
        """
        budget, markers = budget or Budget(), range(len(sizes)) if markers is None else markers
        if self.factor is None:
            _refuse_own_limits(images)
            return self._asked(sizes, images, budget, markers)
        fitted = self._fitted(sizes, images, budget, markers)
        tokens = tuple(height * width // self.factor**2 for height, width in fitted)
        return ImageTargets(sizes=tuple(fitted), tokens=tokens)

    def processor_targets(
        self, sizes: Sequence[Size], *, images: Sequence[ImageSource] = (), markers: Sequence[int] | None = None
    ) -> ImageTargets:
        """Return the same by the processor's rule alone, for images that go to it as decoded.

        The processor is asked for its counts. They differ from those of `targets` where it exceeds its own limit, as it
        does for some thin images; no size is known there.
        """
        computed = self.targets(sizes, images=images, markers=markers)
        count = getattr(getattr(self.processor, "image_processor", self.processor), "get_number_of_image_patches", None)
        if self.factor is None or count is None:
            return computed
        tokens = tuple(int(count(height, width)) // self.merge_size**2 for height, width in sizes)
        pairs = zip(computed.sizes, computed.tokens, tokens, strict=True)
        return ImageTargets(
            sizes=tuple(size if ours == theirs else None for size, ours, theirs in pairs), tokens=tokens
        )

    def _fitted(
        self, sizes: Sequence[Size], images: Sequence[ImageSource], budget: Budget, markers: Sequence[int]
    ) -> list[Size]:
        assert self.factor is not None
        given: Sequence[ImageSource | None] = images or [None] * len(sizes)
        sizes = [size if image is None else image.resized or size for size, image in zip(sizes, given, strict=True)]
        limits = [self._limits(image, budget) for image in given]
        for (height, width), (low, high), image in zip(sizes, limits, given, strict=True):
            try:
                smart_resize(height, width, factor=self.factor, min_pixels=low, max_pixels=high)
            except ValueError as error:
                remedy = "crop or pad the image" if "ratio" in str(error) else "raise max_pixels"
                raise ImageError(str(error), image=str(image or "?"), kind="shape", remedy=remedy) from error
        try:
            return fit_sizes(
                sizes,
                factor=self.factor,
                limits=limits,
                max_tiles=budget.max_prompt_image_tokens,
                times=[markers.count(image) for image in range(len(sizes))],
            )
        except ValueError as error:
            raise _over_budget(str(error)) from error

    def _limits(self, image: ImageSource | None, budget: Budget) -> tuple[int, int]:
        own_low = image.min_pixels if image is not None else None
        own_high = image.max_pixels if image is not None else None
        high = own_high or budget.max_pixels or self.max_pixels
        low = own_low or budget.min_pixels or self.min_pixels
        if own_low and own_low > high:
            raise ImageError(
                f"expected min_pixels of at most {high} (the most pixels of the run or the processor), got {own_low}",
                image=str(image),
                kind="shape",
                remedy="give the image a max_pixels of its own, raise --max_pixels, or lower its min_pixels",
            )
        return min(low, high), high

    def _asked(
        self, sizes: Sequence[Size], images: Sequence[ImageSource], budget: Budget, markers: Sequence[int]
    ) -> ImageTargets:
        if budget.max_pixels or budget.min_pixels:
            raise UsageError(
                "expected a processor that resizes freely for pixel limits (--min_pixels, --max_pixels), got one with "
                "tiles or a fixed size: set its own size or number of tiles instead"
            )
        if not sizes:
            return ImageTargets(sizes=(), tokens=())
        try:
            found = [expansion.num_features for expansion in self._expand([sizes[image] for image in markers])]
        except ValueError as error:
            raise self._refusing(sizes, images, error) from error
        limit = budget.max_prompt_image_tokens
        if limit is not None and sum(found) > limit:
            raise _over_budget(f"expected at most {limit} image tokens in the prompt, got {sum(found)}")
        first = dict(zip(reversed(markers), reversed(found), strict=True))
        tokens = tuple(first.get(image, 0) for image in range(len(sizes)))
        return ImageTargets(sizes=(None,) * len(sizes), tokens=tokens)

    def _expand(self, sizes: Sequence[Size]) -> Sequence[Expansion]:
        return expander_of(self.processor).expand(sizes)

    def _refusing(self, sizes: Sequence[Size], images: Sequence[ImageSource], error: ValueError) -> ImageError:
        """Which of the images the processor's own count refuses, in its own words."""
        for number, (height, width) in enumerate(sizes):
            try:
                self._expand([(height, width)])
            except ValueError as own:
                name = str(images[number]) if images else "?"
                reason = f"the model's processor refuses {width}x{height} pixels ({' '.join(str(own).split())})"
                return ImageError(reason, image=name, kind="shape", remedy="crop or pad the image")
        reason = f"the model's processor cannot count them ({' '.join(str(error).split())})"
        return ImageError(reason, image=ALL_IMAGES, kind="shape", remedy="drop the row")

    def _agrees_with(self, image_processor: Any) -> bool:
        count = getattr(image_processor, "get_number_of_image_patches", None)
        if self.factor is None or count is None or self.max_pixels < self.factor**2:
            return False
        theirs = {size: count(*size) for size in _TRIALS}
        # transformers exceeds max_pixels for thin images at small limits; there the two differ on purpose
        within = [size for size in _TRIALS if theirs[size] * self.patch_size**2 <= self.max_pixels]
        return all(theirs[size] == self._patches(*size) for size in within) and len(within) >= len(_TRIALS) // 2

    def _patches(self, height: int, width: int) -> int:
        assert self.factor is not None
        high, wide = smart_resize(
            height, width, factor=self.factor, min_pixels=self.min_pixels, max_pixels=self.max_pixels
        )
        return high * wide // self.patch_size**2


def _refuse_own_limits(images: Sequence[ImageSource]) -> None:
    for image in images:
        if image.has_limits:
            raise ImageError(
                "expected an image without pixel limits of its own for a processor with tiles or a fixed size",
                image=str(image),
                kind="shape",
                remedy="remove min_pixels, max_pixels, resized_height and resized_width from the row",
            )


def _over_budget(reason: str) -> ImageError:
    return ImageError(reason, image=ALL_IMAGES, kind="budget", remedy="raise --max_prompt_image_tokens or drop images")


def _replaced(spec: VisionSpec) -> VisionSpec:
    from dataclasses import replace

    return replace(spec, factor=None)


def _number(processor: Any, name: str) -> int:
    value = getattr(processor, name, None)
    return value if isinstance(value, int) else 0


def _entry(size: Any, name: str) -> int | None:
    value = size.get(name) if hasattr(size, "get") else getattr(size, name, None)
    return value if isinstance(value, int) else None
