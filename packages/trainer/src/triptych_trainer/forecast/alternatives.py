"""What each setting would save: the forecast again with one of them changed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from triptych_parser import Refusal

from triptych_trainer.forecast.forecast import Subject, forecast
from triptych_trainer.models.adapters import saved_adapters

__all__ = ["Alternative", "PixelCap", "alternatives", "cap_that_fits"]

_TRIED_CAPS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Alternative:
    """Contains one changed setting and the peak under it."""

    name: str
    now: str
    changed: str
    peak_bytes: int
    allocated_bytes: int
    """The part of the peak that is not weights, gradients and optimizer state, at its highest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelCap:
    """Contains a limit of pixels per image under which a run fits."""

    max_pixels: int
    max_prompt_image_tokens: int
    """The most image tokens that a prompt then has."""
    num_rows: int
    """Rows whose images become smaller by it."""
    peak_bytes: int


def alternatives(subject: Subject) -> Iterator[Alternative]:
    """Forecast each variant that makes sense for the run."""
    for name, now, changed, variant in _variants(subject):
        try:
            found = forecast(variant, phases=("generate", "policy"))
        except Refusal:  # a combination that the run would refuse as well
            continue
        yield Alternative(
            name=name,
            now=now,
            changed=changed,
            peak_bytes=found.peak.total_bytes,
            allocated_bytes=found.allocated_bytes,
        )


def _variants(subject: Subject) -> Iterator[tuple[str, str, str, Subject]]:
    args, run, model = subject.config.grpo, subject.config.run, subject.config.model
    batch, group, length = args.per_device_train_batch_size, args.num_generations, args.max_completion_length
    low, high = pixel_range(subject)
    if high // 2 >= low > 0:
        with suppress(Refusal):  # the images of some prompt cannot meet it
            yield "max_pixels", f"{high:,}", f"{high // 2:,}", capped(subject, high // 2)
    if group >= 4 and batch % 2 == 0:
        changed = {"num_generations": group // 2, "per_device_train_batch_size": batch // 2}
        yield "num_generations, same prompts", str(group), str(group // 2), _with(subject, grpo=changed)
    if batch % 2 == 0:
        changed = {
            "per_device_train_batch_size": batch // 2,
            "gradient_accumulation_steps": 2 * args.gradient_accumulation_steps,
            "steps_per_generation": 2 * args.steps_per_generation,
        }
        yield "per_device_train_batch_size", str(batch), str(batch // 2), _with(subject, grpo=changed)
    if length >= 2:
        changed = {"max_completion_length": length // 2}
        yield "max_completion_length", str(length), str(length // 2), _with(subject, grpo=changed)
    on = args.gradient_checkpointing
    changed = {"gradient_checkpointing": not on}
    yield "gradient_checkpointing", str(on), str(not on), _with(subject, grpo=changed)
    slices = run.completions_per_slice
    if slices is None and batch > 1 and subject.sharding != "full" and run.group_sharing != "off":
        fewer = max(1, min(batch, group) // 2)
        yield "completions_per_slice", "all", str(fewer), _with(subject, run={"completions_per_slice": fewer})
    if model.dtype == "float32":
        yield "dtype", "float32", "bfloat16", _with(subject, model={"dtype": "bfloat16"})
    if not model.use_peft and saved_adapters(model, merge=run.merge_adapter) is None:
        yield "use_peft", "False", f"True, rank {model.lora_r}", _with(subject, model={"use_peft": True})
        if not run.freeze_vision_modules:
            changed = {"freeze_vision_modules": True}
            yield "freeze_vision_modules", "False", "True", _with(subject, run=changed)


def _with(
    subject: Subject,
    *,
    grpo: dict[str, Any] | None = None,
    run: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
) -> Subject:
    config = subject.config
    parts = []
    for part, changes in ((config.grpo, grpo), (config.run, run), (config.model, model)):
        changed = copy.copy(part)
        for name, value in (changes or {}).items():
            setattr(changed, name, value)
        parts.append(changed)
    return replace(subject, config=replace(config, grpo=parts[0], run=parts[1], model=parts[2]))


def pixel_range(subject: Subject) -> tuple[int, int]:
    """Return (fewest, most) pixels between which a limit per image has some effect, or (0, 0) if no limit has any."""
    vision = subject.counter.model.vision
    if vision.factor is None or not any(row.images.sizes for row in subject.rows):
        return 0, 0
    largest = max(height * width for row in subject.rows for height, width in row.given_sizes)
    return max(vision.min_pixels, 4 * vision.factor**2), min(vision.max_pixels, largest)


def capped(subject: Subject, max_pixels: int) -> Subject:
    """Return the same run with another limit of pixels per image."""
    counter = subject.counter.with_pixels(max_pixels)
    return replace(subject, counter=counter, rows=counter.recount(subject.rows))


def cap_that_fits(subject: Subject, *, memory_bytes: int) -> PixelCap | None:
    """Return the largest pixel limit under which the peak fits, to within about 5 %, or None if no limit helps."""
    low, high = map(float, pixel_range(subject))
    if not 0 < low < high:
        return None
    peaks: dict[Any, int] = {}
    best = _fitting(subject, int(low), memory_bytes, peaks)
    if best is None:
        return None
    for _ in range(_TRIED_CAPS):
        middle = (low * high) ** 0.5
        found = _fitting(subject, int(middle), memory_bytes, peaks)
        if found is None:
            high = middle
        else:
            best, low = found, middle
    return best


def _fitting(subject: Subject, max_pixels: int, memory_bytes: int, peaks: dict[Any, int]) -> PixelCap | None:
    """The limit, if the run fits under it; ``peaks`` remembers forecasts: two limits often leave the same sizes."""
    variant = capped(subject, max_pixels)
    sizes = tuple((row.images.resized, row.images.model_sizes, row.images.tokens) for row in variant.rows)
    if sizes not in peaks:
        peaks[sizes] = forecast(variant, phases=("generate", "policy")).peak.total_bytes
    if peaks[sizes] > memory_bytes:
        return None
    pairs = zip(subject.rows, variant.rows, strict=True)
    return PixelCap(
        max_pixels=max_pixels,
        max_prompt_image_tokens=max(row.image_tokens for row in variant.rows),
        num_rows=sum(after.image_tokens < before.image_tokens for before, after in pairs),
        peak_bytes=peaks[sizes],
    )
