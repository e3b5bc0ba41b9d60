"""How far vLLM's log-probabilities are from the model's: measured, logged, limited, and what would make them wrong."""

import math

import pytest
from sampled import sample
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.mismatch import measured
from triptych_trainer.grpo.trl.mismatch_watch import MismatchWarning, warn_of_ban
from triptych_trainer.grpo.vllm import RolloutMismatchError


@pytest.mark.parametrize(("mode", "most"), [("colocate", 20), ("server", 19)])
def test_a_ban_that_stays_in_the_ratios_is_said(vllm_trainer, write_rows, monkeypatch, mode, most):
    of = "triptych_trainer.models.families.family.Family.image_token_ids"
    monkeypatch.setattr(of, lambda self, config: range(most))
    trainer = vllm_trainer(write_rows([1]), mode=mode)
    monkeypatch.setattr(of, lambda self, config: range(most + 1))
    with pytest.warns(
        MismatchWarning, match=rf"returns the log-probabilities of {most} .* has {most + 1} that represent"
    ):
        warn_of_ban(trainer)


def test_a_run_says_how_far_the_engine_is_from_the_trained_model(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([0, 1, 2, 5]), mode="colocate", max_steps=1, mismatch_kl_warn=0.015)
    with pytest.warns(MismatchWarning, match=r"step 0: mismatch_kl is [\d.]+, above mismatch_kl_warn=0.015: .*with 5"):
        trainer.train()  # what the stand-in calls log-probabilities is far from the model's
    logged = trainer.state.log_history[0]
    assert logged["sampling/mismatch_kl"] > 0.015
    assert {f"sampling/mismatch_kl/images_{number}" for number in (0, 1, 2, 5)} <= set(logged)
    assert logged["sampling/mismatch_kl/max"] >= logged["sampling/mismatch_kl/with_images"] > 0


def test_the_estimate_is_k3_of_every_counted_token(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([2, 1]), mode="colocate")
    batch = sample(trainer, 0, 1)
    by_hand = {0: [], 1: []}
    for row, rollout in enumerate(batch.rollouts):
        for old, said in zip(batch.old_logps_BC[row].tolist(), rollout.sampling_logps, strict=False):
            by_hand[row // trainer.num_generations].append(math.exp(old - said) - (old - said) - 1)
    found = measured(batch)
    for number, values in ((2, by_hand[0]), (1, by_hand[1])):
        assert found[number].num_tokens == len(values)
        assert found[number].mean == pytest.approx(sum(values) / len(values), rel=1e-5)
        assert found[number].largest == pytest.approx(max(values), rel=1e-5)


def test_a_limit_ends_the_run(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([1, 2, 0, 1]), mode="server", mismatch_kl_limit=0.5)
    with pytest.raises(RolloutMismatchError, match=r"step 0: mismatch_kl is \S+, above mismatch_kl_limit=0.5"):
        trainer.train()
    with pytest.raises(UsageError, match=r"mismatch_kl_limit=0: expected a number above 0"):
        vllm_trainer(write_rows([1, 2]), mode="server", mismatch_kl_limit=0.0)


def test_a_server_that_returns_other_log_probabilities_is_refused(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([1]), mode="server")
    trainer.vllm_generation.logprobs_mode = "raw_logprobs"
    with pytest.raises(UsageError, match=r"runs with --logprobs-mode raw_logprobs, .*; start it with `triptych serve "):
        sample(trainer, 0)


def test_a_correction_that_drops_most_completions_says_so(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([1, 2]), mode="colocate", max_completion_length=12)
    trainer.vllm_importance_sampling_clip_max = 1e-6
    with pytest.warns(MismatchWarning, match=r"sequence_mask gave \d+% of the completions the weight 0"):
        sample(trainer, 0, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature expects a number above 0, got 0.0"),
        (
            {"repetition_penalty": 1.2},
            r"repetition_penalty=1.2: vLLM then samples from other probabilities than the trainer.*leave it out",
        ),
        ({"vllm_structured_outputs_regex": "a+"}, r"vllm_structured_outputs_regex: .*leave it out"),
        (
            {"generation_kwargs": {"min_tokens": 3}, "top_p": 0.9, "repetition_penalty": 1.1},
            r"^repetition_penalty=1.1, generation_kwargs min_tokens: .*leave them out",
        ),
        (
            {"top_p": 0.9, "min_p": 0.1, "rollout_func": lambda prompts, trainer: {}},
            r"top_p=0.9, min_p=0.1 with rollout_func: .*leave out the cut, or set vllm_importance_sampling_corr",
        ),
        ({"generation_kwargs": {"n": 3}}, r"generation_kwargs n: the run sets it itself"),
        ({"generation_kwargs": {"min_tokns": 3}}, r"generation_kwargs min_tokns: .*did you mean min_tokens\?"),
        (
            {"vllm_importance_sampling_mode": "median"},
            r"vllm_importance_sampling_mode expects one of token_.*'median'$",
        ),
    ],
)
def test_options_whose_ratios_would_be_wrong_are_refused(vllm_trainer, write_rows, options, message):
    with pytest.raises(UsageError, match=message):
        vllm_trainer(write_rows([1]), mode="colocate", **options)


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (ConnectionError("refused"), r"no vLLM server answers at http://.*start one with `triptych serve MODEL`"),
        (
            NotImplementedError("no CUDA"),
            r"vllm_weight_transfer=.nccl.: the trainer has no GPU \(cpu\); use .*=.folder.",
        ),
    ],
)
def test_a_server_that_cannot_be_connected_to_is_one_sentence(vllm_trainer, write_rows, monkeypatch, raised, message):
    def connect(**_):
        raise raised

    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", connect)
    with pytest.raises(UsageError, match=message):
        vllm_trainer(write_rows([1]), mode="server", vllm_weight_transfer="nccl")
