"""One of two gloo ranks that run the shared pass on different batches: without gradient, checked, and with gradient.

The environment says which rank this is. The first one prints the largest gradient error against one process.

python ranks.py <helpers.py> <mode>...     modes: ddp, ddp-checkpointing, ddp-arrivals, fsdp2, ...
"""

import copy
import importlib.util
import json
import os
import sys
from types import ModuleType

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from triptych_parser import ImageSpan
from triptych_trainer.forward import (
    CheckedLogps,
    CompletionImage,
    GroupBatch,
    install_hooks,
    plain_logps,
    shared_logps,
)

WORLD = 2


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("triptych_sharing_helpers", path)
    lab = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = lab
    spec.loader.exec_module(lab)
    return lab


def batch_of(lab: ModuleType, rank: int):
    """Rank 0 has images, rank 1 has none: the case in which collectives of the tower could go missing."""
    recipe = lab.Recipe(images=((2, 1) if rank == 0 else (0, 0)), completions=((4, 3), (5, 2)))
    return lab.qwen_batch(recipe, seed=rank)


def with_arrivals(lab: ModuleType, rank: int):
    """On rank 0 two images arrive in completions as well, one of them in both; rank 1 has none still."""
    batch = batch_of(lab, rank)
    if rank == 1:
        return batch
    noise = torch.Generator().manual_seed(9)
    images = [lab.qwen_image(noise, height=4, width=4), lab.qwen_image(noise, height=2, width=4)]
    turns = [[lab.START, *[lab.IMAGE] * pads, lab.END] for pads in (4, 2)]
    rows, trained, arrived = [], [], []
    for numbers in ((0, 1), (1,), (), (0,)):
        ids, counted, found = [5, 6], [True, True], []
        for k, number in enumerate(numbers):
            runs = ((len(ids) + 1, len(turns[number]) - 2),)
            span = ImageSpan(start=len(ids), length=len(turns[number]), image=k, runs=runs)
            found.append(CompletionImage(image=len(batch.images) + number, span=span))
            ids += [*turns[number], 7, 8 + number]
            counted += [False] * len(turns[number]) + [True, True]
        rows.append(ids)
        trained.append(counted)
        arrived.append(found)
    return GroupBatch.build(
        batch.prompts,
        spans=batch.spans,
        image_indices=batch.image_indices,
        images=[*batch.images, *images],
        completions=[rows[:2], rows[2:]],
        trained=[trained[:2], trained[2:]],
        completion_images=[arrived[:2], arrived[2:]],
    )


def plain_gradients(lab: ModuleType) -> dict[str, torch.Tensor]:
    """Mean over ranks of the gradients of replicated rows, which other tests compare with stock forwards."""
    model = lab.qwen2_5_vl().train()
    for rank in range(WORLD):
        logps, entropies = plain_logps(model, with_arrivals(lab, rank), compute_entropy=True)
        (lab.weighted_loss(logps, entropies) / WORLD).backward()
    return lab.gradients(model)


def expected_gradients(lab: ModuleType) -> dict[str, torch.Tensor]:
    """Mean over ranks of the gradients of stock forwards."""
    stock = lab.qwen2_5_vl().train()
    for rank in range(WORLD):
        (lab.weighted_loss(*lab.stock_logps(stock, batch_of(lab, rank))) / WORLD).backward()
    return lab.gradients(stock)


def wrap(model: torch.nn.Module, mode: str) -> torch.nn.Module:
    if mode.endswith("checkpointing"):
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if mode.startswith("ddp"):
        return DistributedDataParallel(model, find_unused_parameters=True)
    mesh = init_device_mesh("cpu", (WORLD,))
    for layer in [*model.model.visual.blocks, *model.model.language_model.layers]:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def run(path: str, modes: list[str]) -> None:
    rank = int(os.environ["RANK"])
    dist.init_process_group("gloo")
    lab = load(path)
    references = {batch_of: expected_gradients(lab), with_arrivals: plain_gradients(lab)}
    for mode in modes:
        batch = with_arrivals if mode.endswith("arrivals") else batch_of
        reference = references[batch]
        scale = max(float(g.norm()) for g in reference.values())
        model = copy.deepcopy(lab.qwen2_5_vl()).train()
        install_hooks(model)
        wrapped = wrap(model, mode)
        with torch.no_grad():
            old, _ = shared_logps(wrapped, batch(lab, rank))
        policy = CheckedLogps()
        policy.expects_completion_images = batch is with_arrivals
        logps, entropies = policy(wrapped, batch(lab, rank), compute_entropy=True)
        assert torch.equal(old, logps.detach())
        lab.weighted_loss(logps, entropies).backward()
        errors = {}
        for name, parameter in model.named_parameters():
            grad = parameter.grad
            grad = grad.full_tensor() if hasattr(grad, "full_tensor") else grad
            want = reference.get(name, torch.zeros_like(grad))
            errors[name] = float((grad - want).norm()) / max(float(want.norm()), 1e-2 * scale)
        if rank == 0:
            print(json.dumps({"mode": mode, "error": max(errors.values()), "parameters": len(errors)}), flush=True)
        dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2:])
