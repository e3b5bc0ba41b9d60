"""A real engine and the trainer agree on every token, for any number of images and whenever the weights change."""

import copy
import os
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.mismatch import measured
from triptych_trainer.grpo.step import sampling_logps, score

ROWS = 7
"""In the last one images are resized, for vLLM as by the model's own processor."""


def sampled(trainer, *keys):
    rows = [{"row": key} for key in keys for _ in range(trainer.num_generations)]
    return trainer._generate_and_score_completions(rows)["triptych_batch"]


def difference(trainer, *keys):
    """The largest difference between the engine's log-probabilities and the trainer's own, by row."""
    batch = sampled(trainer, *keys)
    old_BC = batch.old_logps_BC
    rows = (old_BC - sampling_logps(batch, device=old_BC.device)).abs().amax(dim=1)
    return dict(zip(keys, rows.view(len(keys), -1).amax(dim=1).tolist(), strict=True))


@pytest.fixture
def moved(trainer):
    """A trainer at a later step, whose tower has moved as far as it takes to see it; put back afterwards."""
    tower, step = trainer.model.model.visual, trainer.state.global_step
    before = copy.deepcopy(tower.state_dict())
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    trainer.state.global_step = step + 1
    yield trainer
    tower.load_state_dict(before)
    trainer.state.global_step = step + 2


def test_the_engine_and_the_trainer_agree_for_any_number_of_images(trainer):
    found = difference(trainer, *range(ROWS))
    assert max(found.values()) < 1e-5, found
    again = difference(trainer, *reversed(range(ROWS)))  # from warm caches, in another order
    assert max(again.values()) < 1e-5, again
    assert max(difference(trainer, 0).values()) < 1e-5, "a batch without any image"


def test_images_that_are_seen_again_are_sampled_with_the_tower_of_this_step(moved):
    found = difference(moved, *range(ROWS))
    assert max(found.values()) < 1e-4, f"features of the old tower: {found}"


def test_adapters_on_the_tower_are_sampled_with_at_every_step(build, same_engine):
    trainer = build(
        {"peft_config": LoraConfig(r=4, target_modules=r".*(q_proj|visual.*qkv)", init_lora_weights=False)},
        vllm_mode="colocate",
        vllm_max_model_length=1024,
        vllm_gpu_memory_utilization=0.3,
        learning_rate=1e-2,
    )
    trainer.train()
    found = difference(trainer, *range(ROWS))  # all images were seen with the adapters of two steps before
    assert max(found.values()) < 1e-4, found


def test_without_emptying_the_cache_the_old_features_are_sampled_from(trainer, moved, monkeypatch):
    monkeypatch.setattr(trainer.vllm_generation.llm.llm_engine, "reset_encoder_cache", lambda: None)
    found = difference(moved, *range(ROWS))
    assert found[0] < 1e-4, "no image"
    assert min(found[key] for key in range(1, ROWS)) > 1e-2, f"the test above could not fail: {found}"
    trainer._last_loaded_step = -1


def test_image_tokens_are_never_sampled_and_the_ban_is_in_no_ratio(trainer):
    batch = sampled(trainer, *range(ROWS))
    config = trainer.model.config
    banned = {config.image_token_id, config.video_token_id, config.vision_start_token_id, config.vision_end_token_id}
    assert not banned & {token for rollout in batch.rollouts for token in rollout.ids}
    assert (batch.sampling_ratio - 1).abs().max() < 1e-3


CUTS = [{"top_k": 5}, {"top_p": 0.8, "top_k": 60}, {"min_p": 0.8}, {"top_k": 12, "top_p": 0.7, "min_p": 0.5}]
"""With `top_k`: the model of the tests is unsure, so that `top_p` alone keeps more tokens than an engine returns."""


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_a_cut_distribution_is_scored_over_the_tokens_that_were_kept(trainer, cut, monkeypatch):
    for name, value in {"scores_kept": True, **cut}.items():
        monkeypatch.setattr(trainer.vllm_generation, name, value, raising=False)
    batch = sampled(trainer, *range(ROWS))
    told_BC = sampling_logps(batch, device=batch.old_logps_BC.device)
    off = float((batch.old_logps_BC - told_BC).abs().max())
    whole = [group.with_rollouts([replace(one, kept=None) for one in group.rollouts]) for group in batch.groups]
    with torch.no_grad():
        over_all_BC = score(
            trainer.engine, lambda: nullcontext(trainer.model), replace(batch, groups=tuple(whole)), num_pieces=1
        )
    kept_mass = float((over_all_BC - told_BC)[batch.old_logps_BC != 0].max())
    counts = [(one.kept >= 0).sum(dim=1) for one in batch.rollouts]
    print(f"{cut}: off by {off:.1e}, over all tokens by {-kept_mass:.2f} and more, {max(map(max, counts))} tokens kept")
    assert off < 1e-5
    assert kept_mass < -0.1, "over all tokens every log-probability would be off by the kept mass"
    assert max(map(max, counts)) > 1


def test_more_kept_tokens_than_the_engine_returns_end_the_run_in_one_sentence(trainer, monkeypatch):
    for name, value in {"scores_kept": True, "top_p": 0.99}.items():
        monkeypatch.setattr(trainer.vllm_generation, name, value, raising=False)
    with pytest.raises(
        UsageError, match=r"rows.jsonl:1: example row-0: token 1 of a completion: vLLM drew it from mor"
    ):
        sampled(trainer, 0)


@pytest.fixture
def larger(trainer, monkeypatch):
    """The trainer with pixel limits beyond those of the folder that the engine has read."""
    before = len(trainer.prompt_of(1).ids)
    monkeypatch.setattr(
        trainer.preparer.processor.image_processor, "size", {"shortest_edge": 28**2 * 16, "longest_edge": 28**2 * 600}
    )
    forget_prompts(trainer)
    assert len(trainer.prompt_of(1).ids) > before
    yield trainer
    monkeypatch.undo()
    forget_prompts(trainer)


def forget_prompts(trainer):
    trainer.preparer._kept.clear()
    trainer.preparer.__dict__.pop("model", None)


MOVES_IMAGES = (
    "{% for message in messages %}{% for part in message['content'] if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}{% endfor %}"
)


@pytest.mark.parametrize("choice", ["inline", "template"])
def test_a_template_that_moves_images_is_written_alike_for_the_engine(trainer, choice, monkeypatch):
    monkeypatch.setattr(trainer.preparer.processor, "chat_template", MOVES_IMAGES)
    monkeypatch.setattr(trainer.preparer, "settings", replace(trainer.preparer.settings, chat_template_images=choice))
    forget_prompts(trainer)
    found = difference(trainer, 2, 4)
    begins = trainer.prompt_of(2).ids[1] == trainer.model.config.image_token_id
    monkeypatch.undo()
    forget_prompts(trainer)
    assert max(found.values()) < 1e-5, found
    assert begins == (choice == "template")


def test_images_larger_than_the_folder_that_is_served_allows(larger):
    found = difference(larger, 1, 2)
    assert max(found.values()) < 1e-5, found


def test_a_prompt_that_the_engine_cannot_take_is_named(trainer, monkeypatch):
    monkeypatch.setattr(trainer.vllm_generation.llm.llm_engine.model_config, "max_model_len", 20)
    with pytest.raises(UsageError, match=r"rows.jsonl:5: example row-4: the prompt has \d+ tokens"):
        sampled(trainer, 4)


def test_more_completions_than_the_engine_runs_at_a_time(trainer, monkeypatch):
    limit = trainer.vllm_generation.llm.llm_engine.vllm_config.scheduler_config.max_num_seqs
    monkeypatch.setattr(trainer, "num_generations", limit + 3)
    batch = sampled(trainer, 2)
    assert len(batch.rollouts) == limit + 3


def test_turns_behind_the_image_of_a_tool_are_sampled_as_they_are_trained(looking, same_engine, monkeypatch):
    trainer = looking(vllm_mode="colocate", vllm_max_model_length=1024, vllm_gpu_memory_utilization=0.3)
    generate, calls = same_engine.generate, []
    monkeypatch.setattr(
        same_engine, "generate", lambda *some, **more: calls.append(generate(*some, **more)) or calls[-1]
    )
    batch = sampled(trainer, 1, 4)
    off_BC = (batch.old_logps_BC - sampling_logps(batch, device=batch.old_logps_BC.device)).abs()
    assert off_BC.max() < 1e-5, off_BC.amax(dim=1)
    assert [(len(one.images), len(one.sampled_runs)) for one in batch.rollouts] == [(1, 2)] * 4
    assert set(measured(batch)) == {1, 2, 4, 5}, "by the images before each turn"
    _, second = calls
    cached, whole = [one.num_cached_tokens for one in second], [len(one.prompt_token_ids) for one in second]
    assert min(cached[2:]) >= 128, f"the prompt with its images is not computed again: {cached} of {whole} tokens"


def test_training_steps_log_a_mismatch_near_zero(trainer):
    """`ENGINE_STEPS=20 make vllm-check` prints the table of docs/rollouts.md."""
    trainer.args.max_steps = int(os.environ.get("ENGINE_STEPS", "2"))
    trainer.train()
    lines = [line for line in trainer.state.log_history if "sampling/mismatch_kl" in line]
    assert len(lines) == trainer.args.max_steps
    largest = {}
    for line in lines:
        for name, value in line.items():
            if name.startswith("sampling/mismatch_kl"):
                largest[name] = max(value, largest.get(name, 0.0))
    print({name: f"{value:.1e}" for name, value in largest.items()}, f"largest of {len(lines)} steps")
    assert largest["sampling/mismatch_kl"] < 1e-4
    assert {f"sampling/mismatch_kl/images_{number}" for number in range(5)} <= set(largest)
