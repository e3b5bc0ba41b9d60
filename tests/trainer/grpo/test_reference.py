"""A reference model that a rank did not load is refused."""

from types import SimpleNamespace

import pytest
import torch
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.trl.reference import check_reference, has_weights


def trainer(model, *, others):
    """What the check reads of a trainer with one rank more for each of ``others``, which counts as it says."""
    accelerator = SimpleNamespace(
        num_processes=1 + len(others),
        device=torch.device("cpu"),
        gather=lambda own: torch.cat([own, torch.tensor(others, dtype=own.dtype)]),
    )
    return SimpleNamespace(ref_model=model, accelerator=accelerator)


@pytest.fixture
def empty():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    torch.nn.init.zeros_(model[0].weight)
    return model


def test_a_model_of_zeros_has_no_weights_whatever_its_vectors_are(empty):
    assert not has_weights(empty)
    with torch.no_grad():
        empty[0].weight[3, 2] = 1e-8
    assert has_weights(empty)


def test_a_rank_without_weights_is_refused_on_every_rank(empty):
    whole = torch.nn.Linear(3, 4)
    with pytest.raises(UsageError, match=r"only zeros on 1 of 2 ranks.*fsdp_cpu_ram_efficient_loading: false"):
        check_reference(trainer(empty, others=[0]))
    with pytest.raises(UsageError, match="only zeros on 1 of 2 ranks"):
        check_reference(trainer(whole, others=[1]))
    check_reference(trainer(whole, others=[0]))
    check_reference(trainer(None, others=[0]))
