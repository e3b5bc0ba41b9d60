"""One of two gloo ranks that share a tiny model's weights (FSDP2) and compare it with itself.

python ranks.py <conftest.py of the families> <name of a family>...     The environment says which rank this is.
Prints, as JSON, what the comparison forwarded and what it said, for each family.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from triptych_trainer.forward import install_hooks
from triptych_trainer.forward.prefill import prefilled
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.verification.comparison import ComparedRow
from triptych_trainer.verification.first_use import VerificationError, verify_comparison
from triptych_trainer.verification.in_step import rows_in_step


def load(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("triptych_family_fixtures", path)
    families = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = families
    spec.loader.exec_module(families)
    return families


def sharded(model: torch.nn.Module) -> torch.nn.Module:
    install_hooks(model)
    mesh = init_device_mesh("cpu", (2,))
    lists = [part for part in model.modules() if isinstance(part, torch.nn.ModuleList)]
    for layer in [layer for layers in lists for layer in layers]:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def counted(model: torch.nn.Module) -> list[int]:
    """How many positions each call of the first layer of a tower or backbone gets, in order."""
    numbers: list[int] = []

    def count(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        given = args[0] if args else next(value for name, value in kwargs.items() if "states" in name)
        numbers.append(given[..., 0].numel())

    for part in unwrap(model).modules():
        if isinstance(part, torch.nn.ModuleList) and len(part):
            part[0].register_forward_pre_hook(count, with_kwargs=True)
    return numbers


def rows_of(kit: Any, prompts: Sequence[int]) -> tuple[Any, list[ComparedRow]]:
    chosen = kit.prompts.select(list(prompts))
    rows = [
        ComparedRow(where=f"prompt {p}", inputs=inputs, completion=tuple(group[0]))
        for p, inputs, group in zip(prompts, chosen.stock, chosen.batch.completions, strict=True)
    ]
    return chosen.batch, rows


@torch.no_grad()
def compare(kit: Any, rank: int) -> dict[str, Any]:
    """Compare on other rows on each rank, and go on from a prefill of a whole batch."""
    model = sharded(kit.model())
    batch, rows = rows_of(kit, (3, 2) if rank == 0 else (0, 3))
    numbers, begun = counted(model), []
    verify_comparison(model, batch, rows, open_for_sampling=lambda: nullcontext(model), at_prefill=begun.append)
    found = {"verify": numbers[:]}
    prefill = prefilled(model, kit.prompts.batch, features=None, pad_id=0)
    numbers.clear()
    begun[0](model, kit.prompts.batch, prefill)
    found["sampling"] = numbers[:]
    others = kit.prompts.batch if rank == 0 else kit.prompts.batch.select([1, 2])[0]  # rows 0 and 3 are missing
    prefill = prefilled(model, others, features=None, pad_id=0)
    numbers.clear()
    begun[0](model, others, prefill)
    found["sampling without the rows"] = numbers[:]
    found["lengths"] = [len(ids) + len(row.completion) for ids, row in zip(batch.prompts, rows, strict=True)]
    return found


@torch.no_grad()
def compare_out_of_step(kit: Any, rank: int) -> list[list[int]]:
    """The numbers of images that are compared where one rank's prompts show images and the other's show none."""
    model, begun = sharded(kit.model()), []
    bare = next(p for p, spans in enumerate(kit.prompts.batch.spans) if not spans)
    batch, rows = rows_in_step(*rows_of(kit, (3, bare) if rank == 0 else (bare, bare)))
    verify_comparison(model, batch, rows, open_for_sampling=lambda: nullcontext(model), at_prefill=begun.append)
    own = kit.prompts.batch.select([3, bare] if rank == 0 else [bare])[0]
    begun[0](model, own, prefilled(model, own, features=None, pad_id=0))
    return [[len(spans) for spans in batch.spans], [len(row.inputs["input_ids"][0]) for row in rows]]


@torch.no_grad()
def compare_wrong(kit: Any, rank: int) -> str:
    """What is said where one rank's embeddings differ: on both ranks the same, and neither waits for the other."""
    model = sharded(kit.model())

    def scale(module: torch.nn.Module, args: Any, kwargs: Any) -> Any:
        return (args, {**kwargs, "inputs_embeds": 2 * kwargs["inputs_embeds"]}) if "triptych_pass" in kwargs else None

    if rank == 1:
        unwrap(model).model.language_model.register_forward_pre_hook(scale, with_kwargs=True)
    try:
        verify_comparison(model, *rows_of(kit, (3, 2)))
    except VerificationError as error:
        return str(error)
    return ""


def run(path: str, names: Sequence[str]) -> None:
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    dist.init_process_group("gloo")
    families = load(path)
    kit_of = families.kit_of.__wrapped__(families.kits.__wrapped__())
    for name in names:
        kit = kit_of(name)
        found = {"name": name, **compare(kit, rank), "wrong": compare_wrong(kit, rank)}
        print(json.dumps(found | {"out of step": compare_out_of_step(kit, rank)}), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2:])
