"""The passes of a step as they run on a skeleton: generation, scoring without gradient, policy pass with backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import torch
from transformers import GenerationConfig

from triptych_trainer.forecast.planned_cache import bytes_of_cache, graph_tensors, grow_cache, num_bytes
from triptych_trainer.forecast.recorder import Recorder
from triptych_trainer.forecast.skeleton import Skeleton
from triptych_trainer.forward import GroupBatch
from triptych_trainer.forward.generate import DecodingStart, repeated
from triptych_trainer.forward.group_cache import DECODE_KWARG, GroupCache
from triptych_trainer.forward.group_decode import why_not_by_groups
from triptych_trainer.forward.packed_weights import empty_copies
from triptych_trainer.forward.prefill import Prefilled, prefilled
from triptych_trainer.forward.prompt_graph import why_not_once
from triptych_trainer.grpo.engine import GroupEngine
from triptych_trainer.models.families import ImageFeatures, family_of
from triptych_trainer.options.arguments import RunConfig
from triptych_trainer.upstream.transformers_names import cache_argument

__all__ = ["DECODE", "PASSES", "Device", "Setting", "planned_engine"]

Device = Literal["cpu", "cuda"]
DECODE = "decode"


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """Says how the passes of a run compute."""

    device: Device
    precision: torch.dtype | None
    """Of autocast; None computes in the weights' own."""
    temperature: float
    share_prompts: bool
    completions_per_slice: int | None
    keeps_features: bool = True
    """Whether generation's image features serve the passes without gradient and those of a frozen tower."""
    trains_once: bool = False
    """Whether generation keeps the graph of a tower that learns for the one policy pass that follows."""
    checkpoints_tower: bool = False
    keeps_prompts: bool = False
    """Whether the policy pass goes on from the prompts that generation has forwarded with a graph."""
    has_turns: bool = False
    """Whether rollouts may go on after an answer, for which every row keeps a cache of its own."""

    @classmethod
    def of(
        cls, config: RunConfig, *, device: Device, keeps_features: bool = True, trains_once: bool = False
    ) -> Setting:
        """Return the setting of a command line."""
        args = config.grpo
        precision = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
        return cls(
            device=device,
            precision=precision,
            temperature=args.temperature,
            share_prompts=config.run.group_sharing != "off",
            completions_per_slice=config.run.completions_per_slice,
            keeps_features=keeps_features,
            trains_once=trains_once,
            checkpoints_tower=args.gradient_checkpointing,
            keeps_prompts=trains_once
            and config.run.group_sharing == "auto"
            and not args.gradient_checkpointing
            and device == "cpu",
            has_turns=bool(config.run.tools or config.run.environment),
        )

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the run's mixed precision; a trace is on tensors of a CPU for every device."""
        return nullcontext() if self.precision is None else torch.autocast("cpu", dtype=self.precision)


def planned_engine(setting: Setting) -> GroupEngine:
    """Return the engine of the passes that a forecast traces."""
    return GroupEngine(
        temperature=setting.temperature,
        share_prompts=setting.share_prompts,
        completions_per_slice=setting.completions_per_slice,
        autocast=setting.autocast,
        verify=False,
        fused_lm_head=setting.device == "cuda",
        trains_once=setting.trains_once,
        checkpoints_tower=setting.checkpoints_tower,
    )


Outcome = tuple[int, int, int]
"""Bytes of the key-value cache, of the features that are kept, and of the graph that is kept with them."""


def _policy(
    skeleton: Skeleton, batch: GroupBatch, engine: GroupEngine, setting: Setting, recorder: Recorder
) -> Outcome:
    keys = range(len(batch.prompts))
    scores = engine.logps(skeleton.model, batch, keys=keys, compute_entropy=True)
    _small_loss(scores.logps_BC).backward()
    return 0, 0, 0


def _small_loss(logps_BC: torch.Tensor) -> torch.Tensor:
    """A few tensors of the shape of the log-probabilities, as TRL's losses have them; next to nothing."""
    return -(torch.exp(logps_BC - logps_BC.detach()) * torch.ones_like(logps_BC)).sum()


@torch.no_grad()
def _score(skeleton: Skeleton, batch: GroupBatch, engine: GroupEngine, setting: Setting, recorder: Recorder) -> Outcome:
    keys = range(len(batch.prompts))
    engine.logps(skeleton.model, batch, keys=keys)
    return 0, 0, 0


@torch.no_grad()
def _generate(
    skeleton: Skeleton, batch: GroupBatch, engine: GroupEngine, setting: Setting, recorder: Recorder
) -> Outcome:
    """As ``forward.generate``: encode, prefill, repeat the cache, decode; of decoding the last and widest token."""
    model = skeleton.model
    model.eval()  # as TRL's generation: without checkpointing, which drops caches
    try:
        asked, _ = batch.pick([(p, ()) for p in range(len(batch.prompts))])  # what is there before any turn
        features, graph = _encode(skeleton, asked, engine, recorder, keys=range(len(batch.prompts)))
        turns = engine.turns if batch.has_unsampled_tokens else None
        keeps = setting.keeps_prompts and turns is None and why_not_once(model) is None
        before = recorder.live
        with torch.enable_grad() if keeps else nullcontext(), setting.autocast():
            prompts = prefilled(model, asked, features=features, pad_id=0, turns=turns)
        states = [] if prompts.cache is None or not keeps else graph_tensors(prompts.cache)
        graph += max(recorder.live - before - bytes_of_cache(prompts.cache), 0) if states else 0
        cache_bytes = 0
        if prompts.cache is not None:
            recorder.enter(DECODE)
            counted = setting.device == "cpu"
            copies = empty_copies(skeleton.base, num_tokens=batch.max_completion_tokens) if counted else []
            by_groups = turns is None and _decodes_by_groups(skeleton, prompts, setting)
            start = repeated(prompts, group_sizes=[max(batch.group_sizes)] * len(batch.prompts), by_groups=by_groups)
            if isinstance(start.cache, GroupCache):
                start.cache.room = batch.max_completion_tokens
            # the copies multiply in float32, and `generate` of a model with adapters calls what accelerate left alone
            plain = bool(copies) or skeleton.model is not skeleton.base
            graph += _decode(
                skeleton,
                batch,
                engine,
                recorder,
                start=start,
                positions_ABT=prompts.positions_ABT,
                autocast=nullcontext if plain else setting.autocast,
            )
            cache_bytes = bytes_of_cache(start.cache)
            del copies
        kept = sum(num_bytes(rows) for rows in engine.kept_tensors())
        states.clear()
        return cache_bytes, kept, graph
    finally:
        model.train()


def _decodes_by_groups(skeleton: Skeleton, prompts: Prefilled, setting: Setting) -> bool:
    """Whether a run on a CPU keeps each prompt's keys and values once for its group."""
    if setting.device != "cpu" or setting.has_turns:
        return False
    config = GenerationConfig()
    return why_not_by_groups(skeleton.base, prompts.text, cache=prompts.cache, config=config, further={}) is None


def _encode(
    skeleton: Skeleton, batch: GroupBatch, engine: GroupEngine, recorder: Recorder, *, keys: Sequence[int]
) -> tuple[ImageFeatures | None, int]:
    """Features of a batch's images, and the bytes that their graph keeps until the policy pass takes it."""
    before, kept = recorder.live, len(engine.kept_tensors())
    skeleton.model.train()  # a tower that learns runs as in the policy pass
    features = engine.features(skeleton.model, batch, keys=keys, with_graph=engine.trains_once)
    skeleton.model.eval()
    new = engine.kept_tensors()[kept:]
    joined = 0 if features is None else sum(num_bytes(rows) for rows in (features.rows, *features.deepstack))
    own = joined + sum(num_bytes(rows) for rows in new)
    return features, max(recorder.live - before - own, 0) if any(rows.requires_grad for rows in new) else 0


def _decode(
    skeleton: Skeleton,
    batch: GroupBatch,
    engine: GroupEngine,
    recorder: Recorder,
    *,
    start: DecodingStart,
    positions_ABT: torch.Tensor,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> int:
    """The turns of all rollouts: what arrived is encoded and forwarded, and the last and widest token is decoded.

    Returns the bytes that the graph of what arrived keeps.
    """
    length = start.ids_BT.shape[1]
    sampled = batch.trained[0][0]
    arrived = [(first, stop) for counted, first, stop in _stretches(sampled) if not counted]
    graph = 0
    known = 0  # tokens of a completion in the cache
    images = [found for group in batch.completion_images for row in group for found in row]
    for first, stop in arrived:
        # the images of one turn of all rollouts go through the tower in one call, as they do in a run
        now = [found.image for found in images if first <= found.span.start < stop]
        keys = [batch.image_keys[image] for image in now]
        turn = GroupBatch.build([[0]], images=[batch.images[image] for image in now], image_keys=keys)
        graph += _encode(skeleton, turn, engine, recorder, keys=[0])[1]
        grow_cache(start.cache, first - known)
        with autocast():
            _forward(skeleton, start, positions_ABT, known=length - 1 + first, new=stop - first)
        known = stop
    flops_before = recorder.flops
    total = batch.max_completion_tokens
    grow_cache(start.cache, total - 1 - known)
    with autocast():
        logits = _forward(skeleton, start, positions_ABT, known=length - 1 + total - 1, new=1)
    _sample(logits)
    recorder.flops = flops_before + (recorder.flops - flops_before) * sum(sampled)
    return graph


def _forward(
    skeleton: Skeleton, start: DecodingStart, positions_ABT: torch.Tensor, *, known: int, new: int
) -> torch.Tensor:
    """Forward ``new`` tokens of each row after ``known`` ones; returns the last logits."""
    num_rows, by_groups = start.ids_BT.shape[0], isinstance(start.cache, GroupCache)
    position_ids = positions_ABT[:, :1, -1:].expand(-1, num_rows, new)
    extras = {name: value for name, value in start.extras.items() if name != "custom_generate"}
    logits: torch.Tensor = skeleton.model(
        input_ids=torch.ones(num_rows, new, dtype=torch.long),
        attention_mask=None if by_groups else torch.ones(num_rows, known + new, dtype=torch.long),
        position_ids=family_of(skeleton.base).position_ids(position_ids),
        **cache_argument(skeleton.base, start.cache),
        use_cache=True,
        logits_to_keep=1,
        **extras,
        **({DECODE_KWARG: start.cache} if by_groups else {}),
    ).logits[:, -1]
    return logits


def _stretches(marks: Sequence[bool]) -> Iterator[tuple[bool, int, int]]:
    """(mark, start, stop) of each run of equal marks."""
    first = 0
    for mark, run in groupby(marks):
        stop = first + len(list(run))
        yield mark, first, stop
        first = stop


def _sample(logits_BV: torch.Tensor) -> None:
    """What ``generate`` makes of the last logits: a float32 copy, suppressed ids, temperature, probabilities."""
    scores = logits_BV.to(dtype=torch.float32, copy=True)
    suppressed = scores.clone()
    del scores
    scaled = suppressed / 0.9
    del suppressed
    torch.softmax(scaled, dim=-1)


PASSES = {"generate": _generate, "score": _score, "policy": _policy}
