"""What the merge benchmarks run on: sizes, image shares, group sizes, and the tensors made from them."""

from dataclasses import dataclass

import torch
from triptych_kernels import MergePlan

PLACEHOLDER = 32_767
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
    places: list[tuple[int, int, list[tuple[int, int]]]]
    """(row, image, [(start, length)]), as `MergePlan.from_images` takes them."""
    features_per_image: list[int]
    plan: MergePlan
    ids: torch.Tensor
    """int64 [B, T], the placeholder id at image positions: what a search for image positions is given."""
    embeds: torch.Tensor
    overwritten: torch.Tensor
    """The embedded rows once more, for rows that work in place."""
    features: torch.Tensor
    grad: torch.Tensor
    mask: torch.Tensor
    """bool [B, T], True at image positions."""
    slots: torch.Tensor
    """Flat position of every slot in ascending order, int64: what index_copy is given."""

    @property
    def row_bytes(self) -> int:
        return self.case.hidden * self.features.element_size()


def image_runs(case: Case) -> list[tuple[int, int]]:
    """(start, length) of every image of a row; each image is one run."""
    num_tokens = case.tokens // case.group
    num_slots = round(case.share * num_tokens)
    if case.scattered:
        order = torch.randperm(num_tokens, generator=torch.Generator().manual_seed(2))
        return [(start, 1) for start in sorted(order[:num_slots].tolist())]
    whole, rest = divmod(num_slots, RUN_TOKENS)
    lengths = [RUN_TOKENS] * whole + [rest] * (rest > 0)
    gap = (num_tokens - num_slots) // (len(lengths) + 1)
    return [(gap * (k + 1) + sum(lengths[:k]), length) for k, length in enumerate(lengths)]


def make_batch(case: Case) -> Batch:
    """Tensors of a case, the same on every call."""
    generator = torch.Generator(case.device).manual_seed(1)
    shape = (case.group, case.tokens // case.group)

    def randn(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, device=case.device).to(case.dtype)

    runs = image_runs(case)
    places = [(row, image, [run]) for row in range(case.group) for image, run in enumerate(runs)]
    features_per_image = [length for _, length in runs]
    plan = MergePlan.from_images(shape, places, features_per_image=features_per_image).to(case.device)
    mask = plan.src >= 0
    embeds = randn(*shape, case.hidden)
    text_ids = torch.randint(0, PLACEHOLDER, shape, generator=generator, device=case.device)
    return Batch(
        case=case,
        places=places,
        features_per_image=features_per_image,
        plan=plan,
        ids=text_ids.masked_fill(mask, PLACEHOLDER),
        embeds=embeds,
        overwritten=embeds.clone(),
        features=randn(plan.num_features, case.hidden),
        grad=randn(*shape, case.hidden),
        mask=mask,
        slots=mask.flatten().nonzero().flatten(),
    )
