"""The reference of a run: with trained adapters their copy. A reference model that a rank did not load is refused."""

import copy
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.trl.passes import scoring, settings
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


def test_the_reference_of_adapters_that_are_trained_further_is_their_state_at_the_start(
    loaded, make_trainer, write_rows
):
    adapters = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], init_lora_weights=False)
    trainer = make_trainer(write_rows([1, 2]), model=get_peft_model(copy.deepcopy(loaded[0]), adapters), beta=0.1)
    ids = torch.tensor([[5, 6, 7, 8]])

    def logits(model):
        with torch.no_grad():
            return model(input_ids=ids).logits

    with trainer.model.disable_adapter():
        without = logits(trainer.model)
    start = logits(trainer.model)
    for name, parameter in trainer.model.named_parameters():
        if ".default." in name:
            parameter.data.mul_(3)
    with scoring(trainer).reference() as model:
        reference = logits(model)
    torch.testing.assert_close(reference, start)
    for other in (without, logits(trainer.model)):
        assert not torch.allclose(other, start, atol=1e-3)


def test_an_evaluation_is_scored_by_batches_of_its_own_size(make_trainer, write_rows):
    trainer = make_trainer(write_rows([1, 2]), per_device_eval_batch_size=6)
    sizes = {mode: settings(trainer, mode=mode).rollouts_per_pass for mode in ("train", "eval")}
    assert sizes == {"train": trainer.args.per_device_train_batch_size, "eval": 6}
