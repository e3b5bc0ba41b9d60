"""The forecast of a run of ``sft``: its one pass over whole conversations, and the optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from triptych_data.prompt_settings import PromptSettings

from triptych_trainer.forecast.forecast import Forecast, phase_forecast, update_forecast
from triptych_trainer.forecast.phases import trace
from triptych_trainer.forecast.row_costs import RowCost, RowCounter, heaviest
from triptych_trainer.forecast.skeleton import Skeleton, build_skeleton
from triptych_trainer.forecast.static_memory import static_memory_of
from triptych_trainer.forecast.step import StepShape
from triptych_trainer.forecast.traced_passes import Device, Setting
from triptych_trainer.forward import GroupBatch
from triptych_trainer.forward.choose import sharing_path_and_reason
from triptych_trainer.models.families import Family, family_of
from triptych_trainer.options.plan_options import Sharding
from triptych_trainer.options.sft_arguments import SftConfig
from triptych_trainer.prompts.prepare import PreparedPrompt
from triptych_trainer.sft.labels import labelled
from triptych_trainer.sft.rows import LabelledRow, group_batch

__all__ = ["Conversations", "batch_of", "forecast_sft"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversations:
    """Contains the subject of a forecast: a command line of ``sft``, its rows as conversations, and the device."""

    config: SftConfig
    model_config: Any
    counter: RowCounter
    """Counts whole conversations."""
    settings: PromptSettings
    """Those of a prompt, by which the turns of the assistant are found."""
    end_ids: frozenset[int]
    rows: Sequence[RowCost]
    device: Device
    num_ranks: int = 1
    sharding: Sharding = "none"

    def shape(self) -> StepShape:
        """Return the step's arithmetic: every row is a prompt with one completion."""
        args = self.config.sft
        batch, micro = args.per_device_train_batch_size, args.gradient_accumulation_steps
        per_epoch = -(-len(self.rows) // (batch * self.num_ranks))
        steps = max(1, -(-per_epoch // micro))
        return StepShape(
            num_ranks=self.num_ranks,
            prompts_per_generation=0,
            group_sizes=(1,) * batch,
            num_generations=1,
            micro_batches_per_step=micro,
            generations_per_step=0.0,
            scored_per_step=0.0,
            completion_tokens=0,
            has_gradients_while_generating=False,
            num_steps=args.max_steps if args.max_steps > 0 else max(1, round(steps * args.num_train_epochs)),
            prompts_per_step=float(batch * micro * self.num_ranks),
        )


def forecast_sft(subject: Conversations, *, skeleton: Skeleton | None = None) -> Forecast:
    """Forecast a run whose micro-batches contain its longest conversations together."""
    config, step = subject.config, subject.shape()
    skeleton = skeleton or build_skeleton(config, model_config=subject.model_config)
    states = static_memory_of(skeleton, config, num_ranks=subject.num_ranks, sharding=subject.sharding)
    rows = heaviest(subject.rows, len(step.group_sizes))
    batch = batch_of(rows, subject, family=family_of(skeleton.base))
    traced = trace(skeleton, batch, phase="policy", setting=_setting(subject, skeleton))
    found = phase_forecast("policy", traced, tuple(rows), states=states, step=step, features=0)
    phases = (replace(found, name="training"), update_forecast(states, features=0))
    return Forecast(device=subject.device, static_memory=states, step=step, phases=phases)


def batch_of(rows: Sequence[RowCost], subject: Conversations, *, family: Family) -> GroupBatch:
    """Return the batch of these conversations as ``sft`` lays it out, with a blank image of its own for each image."""
    return group_batch([_labelled(row, number, subject, family=family) for number, row in enumerate(rows)])


def _labelled(row: RowCost, number: int, subject: Conversations, *, family: Family) -> LabelledRow:
    ids, spans, inputs = subject.counter.prompt(row, family=family)
    sizes = tuple(row.images.sizes)
    found = labelled(
        row.example,
        ids=ids,
        spans=spans,
        sizes=sizes,
        model=subject.counter.model,
        settings=subject.settings,
        end_ids=subject.end_ids,
    )
    prompt = PreparedPrompt(
        example=row.example,
        ids=list(found.ids),
        spans=spans,
        image_inputs=inputs,
        image_sizes=sizes,
        model_sizes=sizes,
        image_digests=tuple(f"{number}-{k}" for k in range(len(inputs))),
    )
    return LabelledRow(prompt=prompt, trained=found.trained)


def _setting(subject: Conversations, skeleton: Skeleton) -> Setting:
    args = subject.config.sft
    packs = args.packing and sharing_path_and_reason(skeleton.base)[0] == "packed"
    return Setting(
        device=subject.device,
        precision=torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None,
        temperature=1.0,
        share_prompts=packs,
        completions_per_slice=None,
        keeps_features=False,
        checkpoints_tower=args.gradient_checkpointing,
    )
