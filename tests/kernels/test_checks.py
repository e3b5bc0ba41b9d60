"""What does not fit is refused, with both sides named."""

from collections.abc import Callable

import pytest
import torch
from triptych_kernels import MergePlan, embed_and_merge, merge, merge_add

PLAN = MergePlan.from_spans((2, 6), [(0, 1, 2, 0)], num_features=2)
IDS = torch.zeros(2, 6, dtype=torch.long)


@pytest.mark.parametrize(("op", "name"), [(merge, "embeds"), (merge_add, "hidden")])
def test_rows_and_features(op: Callable, name: str) -> None:
    rows, features_ND = torch.zeros(2, 6, 4), torch.zeros(2, 4)
    with pytest.raises(TypeError, match=f"{name} is torch.float32, features is torch.bfloat16; cast one"):
        op(rows, features_ND.bfloat16(), PLAN)
    with pytest.raises(
        TypeError, match=f"{name} and features are torch.float64, expected float32, bfloat16 or float16"
    ):
        op(rows.double(), features_ND.double(), PLAN)
    with pytest.raises(ValueError, match=f"{name} is on cpu, features is on meta; move one"):
        op(rows, features_ND.to("meta"), PLAN)
    with pytest.raises(ValueError, match=f"{name} is on meta, the plan is on cpu; move the plan once with plan.to"):
        op(rows.to("meta"), features_ND.to("meta"), PLAN)
    with pytest.raises(ValueError, match=rf"features must be \[N, 4\] to fit {name} \[2, 6, 4\], got \[2, 5\]"):
        op(rows, torch.zeros(2, 5), PLAN)
    with pytest.raises(ValueError, match="the plan was made for 2 features, got 3 feature rows"):
        op(rows, torch.zeros(3, 4), PLAN)
    with pytest.raises(ValueError, match=rf"the plan was made for shape \[2, 6\], got {name} of \[2, 7\]"):
        op(torch.zeros(2, 7, 4), features_ND, PLAN)
    with pytest.raises(ValueError, match=r"the plan was made for shape \[2, 6\], got \w+ of \[12\]"):
        op(torch.zeros(12, 4), features_ND, PLAN)


def test_weight_and_ids() -> None:
    weight_VD, features_ND = torch.zeros(5, 4), torch.zeros(2, 4)
    with pytest.raises(TypeError, match="weight is torch.float16, features is torch.float32"):
        embed_and_merge(weight_VD.half(), IDS, features_ND, PLAN)
    with pytest.raises(ValueError, match="weight is on cpu, ids are on meta"):
        embed_and_merge(weight_VD, IDS.to("meta"), features_ND, PLAN)
    with pytest.raises(TypeError, match="ids are torch.float32, expected int64 or int32"):
        embed_and_merge(weight_VD, IDS.float(), features_ND, PLAN)
    with pytest.raises(ValueError, match=r"the plan was made for shape \[2, 6\], got ids of \[6, 2\]"):
        embed_and_merge(weight_VD, IDS.t(), features_ND, PLAN)
    with pytest.raises(ValueError, match=r"weight must be \[V, 4\], got \[1, 5, 4\]"):
        embed_and_merge(weight_VD[None], IDS, features_ND, PLAN)
    with pytest.raises(ValueError, match="padding_idx is 5, but the weight has 5 rows"):
        embed_and_merge(weight_VD, IDS, features_ND, PLAN, padding_idx=5)


def test_a_device_without_kernels_says_so_once() -> None:
    """The reference stands in, with the same results; silence would hide why a run is slow."""
    from triptych_kernels.launch import _device_has_kernels

    _device_has_kernels.cache_clear()
    with pytest.warns(UserWarning, match="triptych-kernels has no kernels for xpu; the slower torch reference is used"):
        assert not _device_has_kernels("xpu")
    assert not _device_has_kernels("xpu")
