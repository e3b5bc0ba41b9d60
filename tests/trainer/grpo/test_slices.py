"""Completions scored in slices: the same training, with the activations of one slice at a time."""

import pytest
import torch
from triptych_trainer.errors import UsageError


def trained(make_trainer, rows, **options):
    trainer = make_trainer(rows, num_generations=4, per_device_train_batch_size=16, optim="sgd", **options)
    trainer.args.learning_rate = 0.05
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return torch.cat([p.detach().double().flatten() for _, p in sorted(trainer.model.named_parameters())]), losses


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"gradient_checkpointing": True}, {"entropy_coef": 0.01}], ids=str)
def test_training_in_slices_gives_the_same_parameters(make_trainer, write_rows, options):
    rows = write_rows([0, 1, 2, 5])
    whole, losses = trained(make_trainer, rows, **options)
    sliced, sliced_losses = trained(make_trainer, rows, completions_per_slice=3, **options)
    start = torch.cat([p.detach().double().flatten() for _, p in sorted(make_trainer(rows).model.named_parameters())])
    moved = (whole - start).norm()
    assert moved > 0
    assert (whole - sliced).norm() / moved < 1e-4
    assert sliced_losses == pytest.approx(losses, abs=1e-5)


def test_no_pass_holds_more_than_a_slice(make_trainer, write_rows):
    trainer = make_trainer(
        write_rows([1, 2]), num_generations=4, per_device_train_batch_size=8, max_steps=1, completions_per_slice=2
    )
    rows = []
    trainer.model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(kwargs["inputs_embeds"].shape[0]) if torch.is_grad_enabled() else None,
        with_kwargs=True,
    )
    trainer.train()
    assert max(rows) == 2, "two prompts, and two completions of a slice"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"completions_per_slice": 0}, "expects 1 or more"),
        ({"completions_per_slice": 2, "group_sharing": "off"}, "leave out group_sharing=.off."),
        (
            {
                "completions_per_slice": 2,
                "gradient_checkpointing": True,
                "gradient_checkpointing_kwargs": {"use_reentrant": True},
            },
            "without use_reentrant",
        ),
    ],
)
def test_what_slices_cannot_do_is_refused(make_trainer, write_rows, options, expected):
    with pytest.raises(UsageError, match=expected):
        make_trainer(write_rows([1, 1]), **options)
