"""Drawing a token for each row, against `torch.multinomial`; the limit is the softmax before it."""

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from triptych_kernels import draw

GROUP = 8
Call = Callable[[], torch.Tensor]
CALLS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "triptych": lambda scores_RV: draw(scores_RV.softmax(-1)),
    "multinomial": lambda scores_RV: torch.multinomial(scores_RV.softmax(-1), 1)[:, 0],
    "limit": lambda scores_RV: scores_RV.softmax(-1),
}


@pytest.mark.parametrize("vocabulary", [32768, 151936])
@pytest.mark.parametrize("who", CALLS)
def test_draw(benchmark: BenchmarkFixture, who: str, vocabulary: int) -> None:
    """One token of a group."""
    benchmark.group = f"draw a token of {GROUP} rows, vocabulary {vocabulary}"
    scores_RV = torch.randn(GROUP, vocabulary) * 2
    found = benchmark.pedantic(lambda: CALLS[who](scores_RV), rounds=20, warmup_rounds=2)
    assert len(found) == GROUP
