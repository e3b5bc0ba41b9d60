"""Advantages: stock TRL's numbers for equal groups, the same formulas by hand for ragged ones."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from triptych_trainer.grpo.advantages import advantages, nanstd, weighted_totals
from triptych_trainer.grpo.batch import Rewards
from trl.trainer import utils as trl_utils

NAN = math.nan


def rewards(scores, keys):
    rows = torch.tensor(scores, dtype=torch.float32)
    return Rewards(
        names=tuple(f"f{k}" for k in range(rows.shape[1])), scores_BF=rows, keys_B=torch.tensor(keys), first_row=0
    )


def of_trl(scores_BF, weights, num_generations, aggregation, scale):
    """What `GRPOTrainer._generate_and_score_completions` of TRL 1.16 does between its rewards and its advantages."""
    weights = torch.tensor(weights)
    unscorable = scores_BF.isnan().all(dim=1)
    if aggregation == "normalize_then_sum":
        grouped = scores_BF.view(-1, num_generations, scores_BF.shape[1])
        mean = torch.nanmean(grouped, dim=1, keepdim=True)
        std = trl_utils.nanstd(grouped, dim=1, keepdim=True) if num_generations > 1 else torch.zeros_like(mean)
        normal = ((grouped - mean) / (std + 1e-4)).view(-1, scores_BF.shape[1])
        total = (normal * weights).nansum(dim=1)
        total[unscorable] = NAN
        std = trl_utils.nanstd(total).expand_as(total)
        return torch.nan_to_num((total - torch.nanmean(total)) / (std + 1e-4), nan=0.0), std
    total = (scores_BF * weights).nansum(dim=1)
    total[unscorable] = NAN
    grouped = total.view(-1, num_generations)
    mean = torch.nanmean(grouped, dim=1).repeat_interleave(num_generations)
    std = trl_utils.nanstd(total).expand_as(total)
    if scale != "batch":
        std = trl_utils.nanstd(grouped, dim=1) if num_generations > 1 else torch.zeros(len(grouped))
        std = std.repeat_interleave(num_generations)
    gain = total - mean if scale == "none" else (total - mean) / (std + 1e-4)
    return torch.nan_to_num(gain, nan=0.0), std


SCORE = st.one_of(st.just(NAN), st.sampled_from([0.0, 1.0]), st.floats(-2, 2, width=32))


@pytest.mark.parametrize("aggregation", ["sum_then_normalize", "normalize_then_sum"])
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@given(data=st.data())
def test_equal_groups_have_the_numbers_of_trl(data, aggregation, scale):
    num_groups, size, functions = (data.draw(st.integers(1, 4), label=name) for name in ("P", "G", "F"))
    row = st.lists(SCORE, min_size=functions, max_size=functions)
    scores = data.draw(st.lists(row, min_size=num_groups * size, max_size=num_groups * size))
    weights = data.draw(st.lists(st.floats(-1, 2, width=32), min_size=functions, max_size=functions))
    if num_groups * size == 1:
        return  # TRL takes the spread of one number in "batch", which is not a number
    found = rewards(scores, [7 * (k // size) for k in range(len(scores))])
    got = advantages(found, weights=weights, aggregation=aggregation, scale=scale)
    expected, std = of_trl(found.scores_BF, weights, size, aggregation, scale)
    torch.testing.assert_close(got.values_B, expected, rtol=1e-5, atol=1e-5)
    assert got.without_spread_B.tolist() == torch.isclose(std, torch.zeros_like(std)).tolist()


def test_ragged_groups_by_hand():
    found = rewards([[1.0], [3.0], [5.0], [2.0], [2.0], [9.0]], [4, 4, 8, 4, 8, 6])
    got = advantages(found, weights=[1.0], scale="none")
    assert got.values_B.tolist() == [-1.0, 1.0, 1.5, 0.0, -1.5, 0.0]
    assert got.without_spread_B.tolist() == [False, False, False, False, False, True]
    scaled = advantages(found, weights=[1.0], scale="group").values_B
    assert scaled[0] == pytest.approx(-1 / (1 + 1e-4))
    assert scaled[2] == pytest.approx(1.5 / (math.sqrt(4.5) + 1e-4))


def test_what_no_function_scored_moves_no_mean_and_gets_no_advantage():
    found = rewards([[1.0, NAN], [NAN, NAN], [NAN, 3.0], [0.0, 0.0]], [0, 0, 0, 0])
    got = advantages(found, weights=[1.0, 2.0], scale="none").values_B.tolist()
    assert got == pytest.approx([1 - 7 / 3, 0.0, 6 - 7 / 3, -7 / 3])
    totals = weighted_totals(found, [1.0, 2.0]).tolist()
    assert totals[0::2] == [1.0, 6.0]
    assert math.isnan(totals[1])


def test_the_spread_leaves_out_what_is_not_there():
    values = torch.tensor([[1.0, NAN, 3.0], [2.0, NAN, NAN]])
    spread = nanstd(values, dim=1)
    assert spread[0] == pytest.approx(math.sqrt(2))
    assert math.isnan(spread[1])
    assert nanstd(values) == pytest.approx(1.0)
