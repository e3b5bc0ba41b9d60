"""The ops inside torch: schema, fake tensors, autograd, and whole-graph compilation."""

from collections.abc import Callable

import pytest
import torch
import torch._inductor.config
from triptych_kernels import MergePlan, embed_and_merge, merge, merge_add

Randn = Callable[..., torch.Tensor]
OPS = torch.ops.triptych_kernels
RUNS = [(0, 1, 2, 0), (1, 3, 2, 0), (1, 6, 1, 2)]
PLAN = MergePlan.from_spans((2, 8), RUNS, num_features=3)


def op_arguments(name: str, randn: Randn, requires_grad: bool) -> tuple:
    def leaf(*shape: int) -> torch.Tensor:
        return randn(*shape).requires_grad_(requires_grad)

    ids = torch.arange(16).view(2, 8) % 5
    arguments = {
        "embed_and_merge": lambda: (leaf(5, 4), ids, leaf(3, 4), PLAN.index, 2),
        "merge": lambda: (leaf(2, 8, 4), leaf(3, 4), PLAN.index),
        "merge_into": lambda: (randn(2, 8, 4), randn(2, 8, 4), randn(3, 4), PLAN.index),
        "merge_in_place": lambda: (randn(2, 8, 4), randn(3, 4), PLAN.index),
        "merge_add": lambda: (leaf(2, 8, 4), leaf(3, 4), PLAN.index),
        "merge_add_into": lambda: (randn(2, 8, 4), randn(2, 8, 4), randn(3, 4), PLAN.index),
        "merge_add_in_place": lambda: (randn(2, 8, 4), randn(3, 4), PLAN.index),
        "features_grad": lambda: (randn(2, 8, 4), PLAN.index, 3),
        "text_grad": lambda: (randn(2, 8, 4), PLAN.index),
    }
    return arguments[name]()


ALL_OPS = [
    "embed_and_merge",
    "merge",
    "merge_into",
    "merge_in_place",
    "merge_add",
    "merge_add_into",
    "merge_add_in_place",
    "features_grad",
    "text_grad",
]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own doing
@pytest.mark.parametrize("name", ALL_OPS)
def test_opcheck(name: str, randn: Randn) -> None:
    op = getattr(OPS, name).default
    torch.library.opcheck(op, op_arguments(name, randn, requires_grad=False))
    if name in ("embed_and_merge", "merge", "merge_add"):
        torch.library.opcheck(op, op_arguments(name, randn, requires_grad=True))


def test_all_ops_are_checked() -> None:
    registered = {
        schema.name for schema in torch._C._jit_get_all_schemas() if schema.name.startswith("triptych_kernels")
    }
    assert registered == {f"triptych_kernels::{name}" for name in ALL_OPS}


def step(
    weight_VD: torch.Tensor, features_ND: torch.Tensor, deep_ND: torch.Tensor, ids: torch.Tensor, plan: MergePlan
) -> torch.Tensor:
    """Every op, the plan as an argument, with something for the compiler to fuse around them."""
    embedded = embed_and_merge(weight_VD, ids, features_ND * 2, plan)
    merged = merge(embedded.relu(), deep_ND, plan)
    return merge_add(merged * 3, features_ND, plan).sin()


def check_compiled(function: Callable, leaves: list[torch.Tensor], rest: tuple, backend: str, randn: Randn) -> None:
    """Compiled to one graph, `function(*leaves, *rest)` and its gradients are what they are without a compiler."""
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend=backend)
    others = [leaf.detach().requires_grad_() for leaf in leaves]
    expected, result = function(*leaves, *rest), compiled(*others, *rest)
    torch.testing.assert_close(result, expected)
    grad = randn(*expected.shape)
    expected.backward(grad)
    result.backward(grad)
    for leaf, other in zip(leaves, others, strict=True):
        torch.testing.assert_close(other.grad, leaf.grad)


def test_compiles_to_one_graph_forward_and_backward(randn: Randn) -> None:
    leaves = [randn(*shape).requires_grad_() for shape in ((5, 4), (3, 4), (3, 4))]
    check_compiled(step, leaves, (torch.arange(16).view(2, 8) % 5, PLAN), "aot_eager", randn)


@pytest.mark.slow
def test_compiles_with_inductor(randn: Randn) -> None:
    """The default compiler, which generates code around the op and for the gradient of the weight."""

    def embed(weight_VD: torch.Tensor, features_ND: torch.Tensor, ids: torch.Tensor, plan: MergePlan) -> torch.Tensor:
        return embed_and_merge(weight_VD, ids, features_ND * 2, plan)

    leaves = [randn(5, 4).requires_grad_(), randn(3, 4).requires_grad_()]
    with torch._inductor.config.patch(compile_threads=1):
        check_compiled(embed, leaves, (torch.arange(16).view(2, 8) % 5, PLAN), "inductor", randn)


def test_a_new_plan_of_another_size_is_taken(randn: Randn) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(merge, fullgraph=True, backend="aot_eager")
    for num_tokens in (6, 9, 13):
        plan = MergePlan.from_spans((num_tokens,), [(0, 1, 4, 0)], num_features=4)
        embeds, features_ND = randn(num_tokens, 8), randn(4, 8)
        assert torch.equal(compiled(embeds, features_ND, plan), merge(embeds, features_ND, plan))


@pytest.mark.parametrize("op", [merge, merge_add])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_in_place_compiles(op: Callable, requires_grad: bool, randn: Randn) -> None:
    torch._dynamo.reset()

    def overwrite(leaf: torch.Tensor, features_ND: torch.Tensor, plan: MergePlan) -> torch.Tensor:
        rows = leaf * 2
        return op(rows, features_ND, plan, out=rows)

    leaf, features_ND = randn(2, 8, 4).requires_grad_(requires_grad), randn(3, 4).requires_grad_(requires_grad)
    other, other_ND = (tensor.detach().requires_grad_(requires_grad) for tensor in (leaf, features_ND))
    expected = overwrite(leaf, features_ND, PLAN)
    result = torch.compile(overwrite, fullgraph=True, backend="aot_eager")(other, other_ND, PLAN)
    assert torch.equal(result, expected)
    if requires_grad:
        grad = randn(2, 8, 4)
        expected.backward(grad)
        result.backward(grad)
        assert torch.equal(other.grad, leaf.grad)
        assert torch.equal(other_ND.grad, features_ND.grad)


def test_under_gradient_checkpointing(randn: Randn) -> None:
    embeds, features_ND, grad = randn(2, 8, 4).requires_grad_(), randn(3, 4).requires_grad_(), randn(2, 8, 4)
    other, other_ND = embeds.detach().requires_grad_(), features_ND.detach().requires_grad_()
    merge(embeds, features_ND, PLAN).sin().backward(grad)
    torch.utils.checkpoint.checkpoint(
        lambda rows, features: merge(rows, features, PLAN).sin(), other, other_ND, use_reentrant=False
    ).backward(grad)
    assert torch.equal(other.grad, embeds.grad)
    assert torch.equal(other_ND.grad, features_ND.grad)


def test_on_the_meta_device_the_reference_gives_the_shape() -> None:
    embeds, features_ND = torch.empty(2, 8, 4, device="meta"), torch.empty(3, 4, device="meta")
    assert merge(embeds, features_ND, PLAN.to("meta")).shape == (2, 8, 4)
