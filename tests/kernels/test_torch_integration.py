"""The merge inside torch: schema, fake tensors, autograd, and whole-graph compilation."""

from collections.abc import Callable

import pytest
import torch
from triptych_kernels import MergePlan, merge

Randn = Callable[..., torch.Tensor]
PLAN = MergePlan.from_images((2, 8), [(0, 0, [(1, 2)]), (1, 0, [(3, 2)]), (1, 1, [(6, 1)])], features_per_image=[2, 1])


def op_arguments(name: str, randn: Randn, *, requires_grad: bool) -> tuple:
    def leaf(*shape: int) -> torch.Tensor:
        return randn(*shape).requires_grad_(requires_grad)

    arguments = {
        "merge": lambda: (leaf(2, 8, 4), leaf(3, 4), PLAN.index),
        "features_grad": lambda: (randn(2, 8, 4), PLAN.index, 3),
        "text_grad": lambda: (randn(2, 8, 4), PLAN.index),
    }
    return arguments[name]()


OPS = ["merge", "features_grad", "text_grad"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own doing
@pytest.mark.parametrize("name", OPS)
def test_opcheck(name: str, randn: Randn) -> None:
    op = getattr(torch.ops.triptych_kernels, name).default
    torch.library.opcheck(op, op_arguments(name, randn, requires_grad=False))
    if name == "merge":
        torch.library.opcheck(op, op_arguments(name, randn, requires_grad=True))


def test_all_ops_are_checked() -> None:
    registered = {
        schema.name for schema in torch._C._jit_get_all_schemas() if schema.name.startswith("triptych_kernels")
    }
    assert registered == {f"triptych_kernels::{name}" for name in OPS}


def between_computations(embeds_TBD: torch.Tensor, features_ND: torch.Tensor, plan: MergePlan) -> torch.Tensor:
    return merge(embeds_TBD.transpose(0, 1).relu(), features_ND * 2, plan).sin()


def between_views(embeds_TBD: torch.Tensor, features_ND: torch.Tensor, plan: MergePlan) -> torch.Tensor:
    """Without any computation that the default compiler would write C++ for, which takes it a minute."""
    return merge(embeds_TBD.transpose(0, 1), features_ND, plan).transpose(0, 1)


@pytest.mark.slow_except("aot")
@pytest.mark.parametrize(
    ("step", "backend"), [(between_computations, "aot_eager"), (between_views, "inductor")], ids=["aot", "inductor"]
)
def test_compiles_to_one_graph_forward_and_backward(step: Callable, backend: str, randn: Randn) -> None:
    """In one graph, with the plan as an argument, results and gradients are what they are without a compiler."""
    torch._dynamo.reset()
    leaves = [randn(8, 2, 4).requires_grad_(), randn(3, 4).requires_grad_()]
    others = [leaf.detach().requires_grad_() for leaf in leaves]
    expected, result = step(*leaves, PLAN), torch.compile(step, fullgraph=True, backend=backend)(*others, PLAN)
    torch.testing.assert_close(result, expected)
    grad = randn(*expected.shape)
    expected.backward(grad)
    result.backward(grad)
    for leaf, other in zip(leaves, others, strict=True):
        torch.testing.assert_close(other.grad, leaf.grad)


def test_a_new_plan_of_another_size_is_taken(randn: Randn) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(merge, fullgraph=True, backend="aot_eager")
    for num_tokens in (6, 9, 13):
        plan = MergePlan.from_images((1, num_tokens), [(0, 0, [(1, 4)])], features_per_image=[4])
        embeds_BTD, features_ND = randn(1, num_tokens, 8), randn(4, 8)
        assert torch.equal(compiled(embeds_BTD, features_ND, plan), merge(embeds_BTD, features_ND, plan))


def test_under_gradient_checkpointing(randn: Randn) -> None:
    embeds_BTD, features_ND, grad_BTD = randn(2, 8, 4).requires_grad_(), randn(3, 4).requires_grad_(), randn(2, 8, 4)
    other_BTD, other_ND = embeds_BTD.detach().requires_grad_(), features_ND.detach().requires_grad_()
    merge(embeds_BTD, features_ND, PLAN).sin().backward(grad_BTD)
    torch.utils.checkpoint.checkpoint(
        lambda rows, features: merge(rows, features, PLAN).sin(), other_BTD, other_ND, use_reentrant=False
    ).backward(grad_BTD)
    assert torch.equal(other_BTD.grad, embeds_BTD.grad)
    assert torch.equal(other_ND.grad, features_ND.grad)


def test_on_the_meta_device_the_reference_gives_the_shape() -> None:
    embeds_BTD, features_ND = torch.empty(2, 8, 4, device="meta"), torch.empty(3, 4, device="meta")
    assert merge(embeds_BTD, features_ND, PLAN.to("meta")).shape == (2, 8, 4)
