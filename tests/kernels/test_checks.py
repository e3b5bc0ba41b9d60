"""What does not fit is refused, with both sides named."""

import pytest
import torch
from triptych_kernels import MergePlan, merge
from triptych_kernels.launch import _device_has_kernels

PLAN = MergePlan.from_images((2, 6), [(0, 0, [(1, 2)])], features_per_image=[2])


def test_embeds_and_features() -> None:
    embeds_BTD, features_ND = torch.zeros(2, 6, 4), torch.zeros(2, 4)
    with pytest.raises(TypeError, match="embeds are torch.float32, features are torch.bfloat16; cast one"):
        merge(embeds_BTD, features_ND.bfloat16(), PLAN)
    with pytest.raises(TypeError, match="embeds and features are torch.float64, expected float32, bfloat16 or float16"):
        merge(embeds_BTD.double(), features_ND.double(), PLAN)
    with pytest.raises(ValueError, match="embeds are on cpu, features are on meta; move one"):
        merge(embeds_BTD, features_ND.to("meta"), PLAN)
    with pytest.raises(ValueError, match="embeds are on meta, the plan is on cpu; move the plan once with plan.to"):
        merge(embeds_BTD.to("meta"), features_ND.to("meta"), PLAN)
    with pytest.raises(ValueError, match=r"features must be \[N, 4\] to fit embeds \[2, 6, 4\], got \[2, 5\]"):
        merge(embeds_BTD, torch.zeros(2, 5), PLAN)
    with pytest.raises(ValueError, match=r"features must be \[N, 4\] to fit embeds \[2, 6, 4\], got \[1, 2, 4\]"):
        merge(embeds_BTD, features_ND[None], PLAN)
    with pytest.raises(ValueError, match="the plan was made for 2 features, got 3 feature rows"):
        merge(embeds_BTD, torch.zeros(3, 4), PLAN)
    with pytest.raises(ValueError, match=r"the plan was made for embeds \[2, 6, D\], got \[2, 7, 4\]"):
        merge(torch.zeros(2, 7, 4), features_ND, PLAN)
    with pytest.raises(ValueError, match=r"the plan was made for embeds \[2, 6, D\], got \[12, 4\]"):
        merge(torch.zeros(12, 4), features_ND, PLAN)


def test_a_device_without_kernels_says_so_once() -> None:
    """The reference gives the same results; without a warning nobody would know why a run is slow."""
    _device_has_kernels.cache_clear()
    with pytest.warns(UserWarning, match="triptych-kernels has no kernels for xpu; the slower torch reference is used"):
        assert not _device_has_kernels("xpu")
    assert not _device_has_kernels("xpu")
