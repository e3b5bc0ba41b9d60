"""Cut distributions: vLLM returns the tokens that it kept, and every pass of the trainer scores over them."""

import math
from dataclasses import replace

import pytest
import torch
from sampled import sample
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.batch import TrainingBatch
from triptych_trainer.grpo.groups import group_batch
from triptych_trainer.grpo.step import sampling_logps
from triptych_trainer.grpo.vllm.engine import _sampling
from triptych_trainer.grpo.vllm.told import asking_for
from triptych_trainer.rollouts.rollout import RolloutGroup

BAN = {368: -100.0, 369: -100.0}


def two_of_them(token):
    """What vLLM tells with a `top_k` of 2: those two, and -inf for the others that it was asked for."""
    return {token: math.log(0.7), token + 1: math.log(0.3), token + 2: -math.inf, 368: -100.0}


def cut(trainer, **fields):
    backend = trainer.vllm_generation
    backend.told = two_of_them
    for name, value in fields.items():
        setattr(backend, name, value)
    return trainer


@pytest.mark.parametrize(("mode", "masks"), [("colocate", False), ("server", False), ("server", True)])
def test_every_pass_scores_over_the_tokens_that_were_kept(vllm_trainer, write_rows, mode, masks):
    trainer = cut(vllm_trainer(write_rows([1, 0]), mode=mode, top_k=2, beta=0.1), masks=masks)
    batch = sample(trainer, 0, 1)
    first = batch.rollouts[0]
    assert [row[:2] for row in first.kept.tolist()] == [[token, token + 1] for token in first.ids], "and no banned one"
    told_BC = sampling_logps(batch, device=torch.device("cpu"))
    assert torch.allclose(told_BC[0, : len(first.ids)], torch.tensor(0.7).log())
    asked = trainer.vllm_generation.calls[0]
    (params, *_) = asked["sampling"] if mode == "colocate" else (asked["sampling_params"],)
    assert params["logprobs"] == (0 if masks else 10), "top_k, and some for those that are equally likely"
    assert "logprob_token_ids" not in params

    text = next(group for group in batch.groups if not group.prompt.spans)
    prompt, ids = list(text.prompt.ids), list(text.rollouts[0].ids)
    row = next(k for k, one in enumerate(batch.rollouts) if one is text.rollouts[0])
    with torch.no_grad():
        logits = trainer.model(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1].double()
    pairs = torch.tensor([[token, token + 1] for token in ids])
    want = logits.gather(1, pairs).log_softmax(-1)[:, 0].float()
    for name in ("old_logps_BC", "reference_logps_BC"):
        assert torch.allclose(getattr(batch, name)[row, : len(ids)], want, atol=1e-5), name
    with torch.no_grad():
        own = trainer.engine.logps(trainer.model, group_batch(batch.groups), keys=[0, 1]).logps_BC
    assert torch.allclose(own[row, : len(ids)], want, atol=1e-5), "the policy pass"


def test_tables_go_through_checkpoints_and_parts(vllm_trainer, write_rows):
    batch = sample(cut(vllm_trainer(write_rows([0, 2]), mode="colocate", top_k=2)), 0, 1)
    prompts = {group.key: group.prompt for group in batch.groups}
    again = TrainingBatch.from_state(
        batch.to_state(),
        begin=lambda key, shown: RolloutGroup(key=key, prompt=prompts[key]),
        device=torch.device("cpu"),
    )
    part = again.rows([2, 1])
    for one, kept in zip(part.rollouts, (batch.rollouts[2], batch.rollouts[1]), strict=True):
        assert torch.equal(one.kept, kept.kept)
    with pytest.raises(ValueError, match="kept"):
        replace(batch.rollouts[0], kept=batch.rollouts[0].kept[:-1])


def test_an_engine_returns_as_many_likeliest_tokens_as_top_k_keeps(vllm_trainer, write_rows):
    trainer = cut(vllm_trainer(write_rows([0]), mode="colocate", top_k=64))
    sample(trainer, 0)
    assert trainer.vllm_generation.llm.llm_engine.model_config.max_logprobs == 72
    assert trainer.vllm_generation.calls[0]["sampling"][0]["logprobs"] == 72


def likeliest(number, share):
    """So many tokens, which have this share of the probability together."""
    return {token: math.log(share / number) for token in range(number)}


def test_tokens_that_were_not_all_returned_end_the_run_in_one_sentence():
    sampling = {"temperature": 1.0, "top_k": 0, "top_p": 0.9, "logit_bias": BAN}
    asking = asking_for(sampling, mode="server", is_cut=True, most=4)

    def read(told):
        return asking.sampled([2], [told[2]], [told], mask=None, where="rows.jsonl:1: example a").kept.tolist()

    assert read(likeliest(4, 1.0)) == [[2, 0, 1, 3]], "all of the probability"
    assert read(likeliest(3, 1.0)) == [[2, 0, 1]], "fewer than were asked for, so that no other is left"
    with pytest.raises(
        UsageError, match=r"vLLM returned 3 of the 4 likeliest .* probabilities are 0.9000 together inst"
    ):
        read(likeliest(3, 0.9))
    with pytest.raises(
        UsageError,
        match=r"^rows.jsonl:1: example a: token 1 of a completion: vLLM drew it from more tok"
        r"ens than the 4 likeliest that it returns, which have 0.9000 .*; set --top_k to at most 4, start",
    ):
        read(likeliest(4, 0.9))
    unknown = asking.sampled([2], [None], [{}], mask=None, where="a")
    assert unknown.kept.tolist() == [[]]
    assert math.isnan(unknown.logps[0])


@pytest.mark.parametrize("mask", [None, [[7, 8]], [[2], [3]]])
def test_a_mask_without_the_sampled_token_ends_the_run_in_one_sentence(mask):
    sampling = {"temperature": 1.0, "top_k": 5, "top_p": 0.9, "logit_bias": BAN}
    with pytest.raises(
        UsageError, match=r"^--top_k 0: the vLLM server was started with --return-sampling-mask, which "
    ):
        asking_for({**sampling, "top_k": 0}, mode="server", is_cut=True, has_mask=True)
    asking = asking_for(sampling, mode="server", is_cut=True, has_mask=True)
    with pytest.raises(
        UsageError, match=r"^a: the vLLM server was started with --return-sampling-mask, and returned no"
    ):
        asking.sampled([2], [-0.1], [{}], mask=mask, where="a")
    assert asking.sampled([2], [-0.1], [{}], mask=[[2, 368, 9]], where="a").kept.tolist() == [[2, 9]]


def test_without_correction_a_cut_distribution_is_scored_over_all_tokens_as_by_trl(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([1]), mode="colocate", top_p=0.9, vllm_importance_sampling_correction=False)
    batch = sample(trainer, 0)
    assert batch.sampling_ratio is None
    assert batch.old_logps_BC is not None, "the difference is measured all the same"
    assert [one.kept for one in batch.rollouts] == [None, None]


def test_options_that_vllm_refuses_end_the_run_in_one_sentence():
    def refusing(**options):
        raise Exception("temperature must be in [0, 2],\ngot 50.0.")

    with pytest.raises(UsageError, match=r"^vLLM refuses the options of sampling .*: temperature must be in .* got 50"):
        _sampling(refusing, {"temperature": 50.0}, 2)
