"""The policy pass and whole steps at small sizes: the group-shared way, TRL's way, and the token ratio as the limit."""

import pytest
import torch
from triptych_data import ImageLoader
from triptych_trainer.forward import install_hooks, shared_logps

GROUP, COMPLETION_TOKENS = 4, 8


@pytest.fixture(scope="module")
def prompt(subject, tmp_path_factory):
    """Two images of 9 tokens."""
    return subject.prepare_prompt(
        subject.write_prompts(tmp_path_factory.mktemp("prompt"), num_images=2, side_pixels=84)
    )


def gradients(model, forward):
    """Set the gradients of the sum of log-probabilities and return these."""
    model.zero_grad(set_to_none=True)
    logps = forward()
    logps.sum().backward()
    return logps.detach()


@pytest.mark.benchmark(group="policy forward + backward")
@pytest.mark.parametrize("way", ["stock", "shared"])
def test_policy_pass(benchmark, subject, prompt, way):
    batch = subject.group_batch(prompt, group=GROUP, completion_tokens=COMPLETION_TOKENS)
    stock, model = subject.build_model(subject.TINY), subject.build_model(subject.TINY)
    install_hooks(model)
    ways = {
        "stock": (stock, lambda: subject.stock_logps(stock, batch, rows=GROUP)),
        "shared": (model, lambda: shared_logps(model, batch)[0]),
    }
    replicated, packed = GROUP * (len(prompt.ids) + COMPLETION_TOKENS), len(prompt.ids) + GROUP * COMPLETION_TOKENS
    benchmark.extra_info.update(tokens=packed if way == "shared" else replicated, token_ratio=replicated / packed)
    logps = benchmark(gradients, *ways[way])
    expected = gradients(*ways["stock"])
    torch.testing.assert_close(logps, expected, atol=1e-5, rtol=0)
    for (name, values), (_, reference) in zip(model.named_parameters(), stock.named_parameters(), strict=True):
        if way == "shared":
            torch.testing.assert_close(values.grad, reference.grad, atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.slow_except("triptych")
@pytest.mark.benchmark(group="whole step")
@pytest.mark.parametrize("way", ["stock", "triptych"])
def test_whole_step(benchmark, subject, tmp_path, way):
    data = subject.write_prompts(tmp_path, num_images=2, side_pixels=84)
    args = subject.config(tmp_path, group=GROUP, completion_tokens=COMPLETION_TOKENS)
    with ImageLoader(threads=1) as loader:

        def fresh():
            if way == "stock":
                return (subject.stock_trainer(data, args, size=subject.TINY),), {}
            return (subject.triptych_trainer(data, args, size=subject.TINY, loader=loader),), {}

        trained = []
        benchmark.pedantic(lambda trainer: trained.append(trainer) or trainer.train(), setup=fresh, rounds=2)
    trainer = trained[-1]
    assert trainer.state.global_step == 1
    logged = next(entry for entry in trainer.state.log_history if "num_tokens" in entry or "train_loss" in entry)
    assert torch.isfinite(torch.tensor(logged.get("loss", logged.get("train_loss"))))
    start = subject.build_model(subject.TINY)
    assert any(not torch.equal(a, b) for a, b in zip(start.parameters(), trainer.model.parameters(), strict=True)), (
        "the timed step has to train"
    )
