"""What the merge benchmarks run on: sizes, image shares, group sizes, and the tensors made from them."""

from dataclasses import dataclass

import torch
from triptych_kernels import MergePlan

VOCABULARY = 32_768
PLACEHOLDER = VOCABULARY - 1
RUN_TOKENS = 256
"""Slots of one image: about a 448 x 448 picture in the Qwen-VL family."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One batch: `group` rows that share their feature rows, `tokens` positions in all."""

    tokens: int
    hidden: int
    share: float = 0.8
    """Fraction of the positions that take a feature row."""
    group: int = 1
    dtype: torch.dtype = torch.bfloat16
    scattered: bool = False
    """Image positions drawn one by one instead of in runs."""
    device: str = "cpu"

    def __str__(self) -> str:
        layout = "-scattered" if self.scattered else ""
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{self.tokens}x{self.hidden}-{dtype}-share{self.share:g}-G{self.group}{layout}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The tensors of a case; B = `group` rows of T = `tokens / group` positions, S slots for N features."""

    case: Case
    runs: list[tuple[int, int, int, int]]
    plan: MergePlan
    weight: torch.Tensor
    ids: torch.Tensor
    embeds: torch.Tensor
    features: torch.Tensor
    grad: torch.Tensor
    mask: torch.Tensor
    scratch: torch.Tensor
    """[T, D] rows that have been written before, for a copy into kept memory."""
    slots: torch.Tensor
    """Flat position of every slot in ascending order, int64: what index_copy is given."""

    @property
    def row_bytes(self) -> int:
        return self.case.hidden * self.features.element_size()


def image_runs(case: Case) -> list[tuple[int, int, int, int]]:
    """(row, start, length, first_feature): the same places in every row of the group."""
    num_tokens = case.tokens // case.group
    num_slots = round(case.share * num_tokens)
    if case.scattered:
        order = torch.randperm(num_tokens, generator=torch.Generator().manual_seed(2))
        starts = sorted(order[:num_slots].tolist())
        spans = [(start, 1) for start in starts]
    else:
        lengths = [RUN_TOKENS] * (num_slots // RUN_TOKENS) + (
            [num_slots % RUN_TOKENS] if num_slots % RUN_TOKENS else []
        )
        gap = (num_tokens - num_slots) // (len(lengths) + 1)
        starts = [gap * (k + 1) + sum(lengths[:k]) for k in range(len(lengths))]
        spans = list(zip(starts, lengths, strict=True))
    runs = []
    for row in range(case.group):
        first = 0
        for start, length in spans:
            runs.append((row, start, length, first))
            first += length
    return runs


def make_batch(case: Case) -> Batch:
    """Tensors of a case, the same on every call."""
    generator = torch.Generator(case.device).manual_seed(1)
    shape = (case.group, case.tokens // case.group)

    def randn(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, device=case.device).to(case.dtype)

    runs = image_runs(case)
    num_features = sum(length for row, _, length, _ in runs if row == 0)
    host_plan = MergePlan.from_spans(shape, runs, num_features=num_features)
    plan = host_plan.to(case.device)
    mask = plan.src >= 0
    text_ids = torch.randint(0, PLACEHOLDER, shape, generator=generator, device=case.device)
    ids = text_ids.masked_fill(mask, PLACEHOLDER)
    weight = randn(VOCABULARY, case.hidden)
    return Batch(
        case=case,
        runs=runs,
        plan=plan,
        weight=weight,
        ids=ids,
        embeds=torch.nn.functional.embedding(ids, weight),
        features=randn(num_features, case.hidden),
        grad=randn(*shape, case.hidden),
        scratch=torch.ones(case.tokens, case.hidden, dtype=case.dtype, device=case.device),
        mask=mask,
        slots=mask.flatten().nonzero().flatten(),
    )
