"""Bytes and operations of a step's phases: each traced on shallow versions of the model and extended to full depth."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from accelerate.utils import convert_outputs_to_fp32

from triptych_trainer.forecast.fused_operations import accelerator_attention, fused_head, windows_in_one_call
from triptych_trainer.forecast.recorder import Recorder
from triptych_trainer.forecast.skeleton import Skeleton, Stack, shallow, stacks_of
from triptych_trainer.forecast.traced_passes import PASSES, Setting, planned_engine
from triptych_trainer.forward import GroupBatch
from triptych_trainer.grpo.engine import GroupEngine
from triptych_trainer.models.families import family_of

__all__ = ["FIRST_LAYERS", "LANGUAGE", "PHASES", "TOWER", "TOWER_BACKWARD", "Phase", "Traced", "trace"]

Phase = Literal["generate", "score", "policy"]
PHASES: tuple[Phase, ...] = ("generate", "score", "policy")
TOWER, FIRST_LAYERS, LANGUAGE, TOWER_BACKWARD = "tower", "first text layers", "language model", "tower backward"


@dataclass(frozen=True, kw_only=True, slots=True)
class Traced:
    """Contains the bytes and operations of one phase; weights, gradients and optimizer state are not in it."""

    peaks: dict[str, float]
    """Highest live bytes per section: tower, text layers before the last, the last with what follows it (and the whole
    backward), decoding, the tower's backward.

    Within each, the peak of a deep model lies where that of a shallow one does, so each is linear in depth; their
    maximum is not. That of the first text layers is at an early one and does not grow: at later ones less is live than
    at the last."""
    cache_bytes: float
    """Keys and values of generation when the last token is decoded."""
    features_bytes: float
    """Image features that stay for the later passes of the step."""
    pixels_bytes: int
    flops: float
    graph_bytes: float = 0.0
    """The bytes that the features' graph keeps from generation to the policy pass, which counts them as its own."""
    last_layer_bytes: float = 0.0
    """What is live in the language model's backward pass when it has come to the first layer."""

    @property
    def peak(self) -> float:
        """The phase's highest number of live bytes."""
        return max(self.peaks.values(), default=0.0)


def trace(skeleton: Skeleton, batch: GroupBatch, *, phase: Phase, setting: Setting, whole: bool = False) -> Traced:
    """Trace a phase on shallow versions of the model and extend it to full depth; ``whole`` traces every layer."""
    stacks = stacks_of(skeleton)
    base_layers = 2
    for module in skeleton.base.modules():  # the first text layers get features of so many tower blocks
        base_layers = max(base_layers, 2 + len(getattr(module, "deepstack_visual_indexes", None) or ()))
    first = partial(_first_layers, count=base_layers)
    kept = {stack.name: first(stack, extra=None, whole=whole) for stack in stacks}
    base = _trace_at(skeleton, batch, phase=phase, setting=setting, kept=kept)
    total, last = base, base.peaks.get(LANGUAGE, 0.0)
    for stack in stacks:
        for kind, positions in enumerate(stack.kinds):
            shared = len(set(positions) & set(kept[stack.name]))
            if len(positions) > shared:
                more = {**kept, stack.name: first(stack, extra=kind, whole=False)}
                deeper = _trace_at(skeleton, batch, phase=phase, setting=setting, kept=more)
                total = _plus(total, deeper, base, times=len(positions) - shared)
                slope = deeper.peaks.get(LANGUAGE, 0.0) - base.peaks.get(LANGUAGE, 0.0)
                last += slope * (-shared if stack.is_text else len(positions) - shared)
    return replace(total, last_layer_bytes=last)


def _first_layers(stack: Stack, *, count: int, extra: int | None, whole: bool) -> list[int]:
    """Positions kept of a stack: the first few of each kind, one more of kind ``extra``."""
    whole = whole or stack.reads_others
    found: list[int] = []
    for kind, positions in enumerate(stack.kinds):
        found += positions if whole or len(positions) <= count + 1 else positions[: count + (kind == extra)]
    return sorted(found)


def _plus(total: Traced, deeper: Traced, base: Traced, *, times: int) -> Traced:
    def extended(name: str) -> float:
        return float(getattr(total, name) + times * (getattr(deeper, name) - getattr(base, name)))

    names = base.peaks.keys() | deeper.peaks.keys()
    peaks = {
        name: total.peaks.get(name, 0.0) + times * (deeper.peaks.get(name, 0.0) - base.peaks.get(name, 0.0))
        for name in names - {FIRST_LAYERS}
    }
    if FIRST_LAYERS in total.peaks:
        peaks[FIRST_LAYERS] = total.peaks[FIRST_LAYERS]
    return Traced(
        peaks=peaks,
        cache_bytes=extended("cache_bytes"),
        features_bytes=extended("features_bytes"),
        pixels_bytes=base.pixels_bytes,
        flops=extended("flops"),
        graph_bytes=extended("graph_bytes"),
    )


def _trace_at(
    skeleton: Skeleton, batch: GroupBatch, *, phase: Phase, setting: Setting, kept: dict[str, list[int]]
) -> Traced:
    with shallow(skeleton, kept), ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        engine = planned_engine(setting)
        made = []
        if phase != "generate" and setting.keeps_features:
            made = _kept_features(skeleton, batch, setting, engine)
        recorder = Recorder(skeleton.fake, known=[*_persistent(skeleton), *made])
        stack.enter_context(_hooks(skeleton, setting, recorder))
        stack.enter_context(recorder)
        recorder.enter(TOWER)
        cache, features, graph = PASSES[phase](skeleton, batch, engine, setting, recorder)
        pixels = sum(values.numel() * values.element_size() for image in batch.images for values in image.values())
        if setting.device == "cuda":  # the host's copy is not the device's
            recorder.peaks[TOWER] += pixels
        return Traced(
            peaks={name: float(value) for name, value in recorder.peaks.items()},
            cache_bytes=float(cache),
            features_bytes=float(features),
            pixels_bytes=pixels,
            flops=float(recorder.flops),
            graph_bytes=float(graph),
        )


@contextmanager
def _hooks(skeleton: Skeleton, setting: Setting, recorder: Recorder) -> Iterator[None]:
    """Everything that replaces the device's kernels and precision, and informs the recorder where a pass is."""
    base = skeleton.base
    inner = family_of(base).vision_language_model(base)
    text = family_of(base).language_model(inner)
    towers = [module for _, module in inner.named_children() if module is not text]
    with ExitStack() as stack:
        stack.enter_context(windows_in_one_call(towers, recorder))
        stack.enter_context(_sections(text, _last_text_layer(skeleton), recorder))
        if setting.device == "cuda":
            stack.enter_context(fused_head(base, recorder))
            stack.enter_context(accelerator_attention(recorder))
        if setting.precision is not None:
            stack.enter_context(_float_outputs(base))
        yield


def _kept_features(skeleton: Skeleton, batch: GroupBatch, setting: Setting, engine: GroupEngine) -> list[torch.Tensor]:
    """Let ``engine`` encode the batch as generation has done before this phase; returns the features it keeps."""
    aside = Recorder(skeleton.fake)
    with _hooks(skeleton, setting, aside), aside, torch.no_grad():
        features = engine.features(skeleton.model, batch, keys=range(len(batch.prompts)))
    return [] if features is None else [*engine.kept_tensors()]


def _persistent(skeleton: Skeleton) -> list[torch.Tensor]:
    """Weights, buffers and gradients: there before the phase and after it."""
    found = [*skeleton.model.parameters(), *skeleton.model.buffers()]
    with skeleton.fake:
        for parameter in skeleton.model.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
    return [*found, *(p.grad for p in skeleton.model.parameters() if p.grad is not None)]


def _last_text_layer(skeleton: Skeleton) -> torch.nn.Module | None:
    return next((stack.layers[-1] for stack in stacks_of(skeleton) if stack.is_text), None)


@contextmanager
def _sections(text: torch.nn.Module, last: torch.nn.Module | None, recorder: Recorder) -> Iterator[None]:
    """Inform the recorder when the language model begins, when its last layer does, and when its backward has ended.

    What is live before the last layer can be highest at an early one (deepstack), after it at the cache of all layers.
    """

    def begin(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if recorder.section == TOWER:
            recorder.enter(LANGUAGE if last is None else FIRST_LAYERS)
        embeds = kwargs.get("inputs_embeds")
        if isinstance(embeds, torch.Tensor) and embeds.requires_grad:
            embeds.register_hook(lambda _: recorder.enter(TOWER_BACKWARD))

    def end(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        if recorder.section == FIRST_LAYERS:
            recorder.enter(LANGUAGE)

    handles = [text.register_forward_pre_hook(begin, with_kwargs=True)]
    if last is not None:
        handles.append(last.register_forward_pre_hook(end))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _float_outputs(base: torch.nn.Module) -> Iterator[None]:
    """As accelerate's mixed precision does: outputs of the model are float32."""
    had = base.__dict__.get("forward")
    base.forward = convert_outputs_to_fp32(base.forward)
    try:
        yield
    finally:
        if had is None:
            del base.forward
        else:
            base.forward = had
