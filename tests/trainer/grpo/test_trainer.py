"""The trainer on rows of 0, 1, 2 and 5 images: it runs, its numbers are the plain forward's, and it pays once."""

import pytest
import torch
from transformers import AutoModelForImageTextToText
from triptych_data import DataError, load_image
from triptych_trainer.errors import IncompatibleVersionError
from triptych_trainer.grpo.batch import TokenScores
from triptych_trainer.grpo.step import policy_loss
from triptych_trainer.models.load import load_processor
from triptych_trainer.prompts.bad_rows import BadRows


def plain_logps(model, processor, prepared, completion):
    """Log-probabilities of one completion from stock transformers: its own forward, its own image processing."""
    ids = torch.tensor([[*prepared.ids, *completion]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    images = [load_image(source) for source in prepared.example.images]
    if images:
        inputs |= dict(processor.image_processor(images=images, return_tensors="pt"))
        inputs["mm_token_type_ids"] = (ids == model.config.image_token_id).long()
        inputs["mm_token_type_ids"][:, len(prepared.ids) :] = 0
    logits = model(**inputs).logits[0, len(prepared.ids) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(completion)[:, None])[:, 0]


def generation(trainer, *keys):
    """What a generation for these rows, one for each completion, leaves to be trained on."""
    return trainer._generate_and_score_completions([{"row": key} for key in keys])["triptych_batch"]


@pytest.mark.slow_except("auto")
@pytest.mark.parametrize("group_sharing", ["auto", "off"])
def test_logps_of_mixed_rows_equal_the_plain_forward(make_trainer, write_rows, model_dir, group_sharing):
    trainer = make_trainer(write_rows([0, 1, 2, 5]), group_sharing=group_sharing, shuffle_dataset=False)
    batch = generation(trainer, 0, 0, 1, 1, 2, 2, 3, 3)
    scored = []
    with torch.no_grad():
        policy_loss(trainer.engine, trainer.model, batch, loss=lambda scores, _: scored.append(scores))
        stock = AutoModelForImageTextToText.from_pretrained(model_dir)
        processor = load_processor(str(model_dir))
        (scores,) = scored
        for row, (key, rollout) in enumerate(zip(batch.keys, batch.rollouts, strict=True)):
            expected = plain_logps(stock, processor, trainer.prompt_of(key), list(rollout.ids))
            torch.testing.assert_close(scores.logps_BC[row, : len(rollout.ids)], expected, atol=1e-5, rtol=0)
            assert not scores.logps_BC[row, len(rollout.ids) :].any()
    assert (scores.entropies_BC >= 0).all()


def test_two_steps_move_language_model_and_vision_tower(make_trainer, write_rows):
    trainer = make_trainer(write_rows([0, 1, 2, 5]))
    before = {name: values.clone() for name, values in trainer.model.state_dict().items()}
    trainer.train()
    after = trainer.model.state_dict()
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert any("visual" in name for name in moved)
    assert any("language_model" in name for name in moved)
    assert trainer.state.global_step == 2


@pytest.mark.slow_except("8")
@pytest.mark.parametrize("num_generations", [2, 8])
def test_every_image_is_decoded_preprocessed_and_encoded_once(make_trainer, write_rows, num_generations):
    trainer = make_trainer(
        write_rows([0, 1, 2, 5]),
        num_generations=num_generations,
        per_device_train_batch_size=4 * num_generations,
        max_steps=1,
        verify_model=False,  # it encodes images of its own
    )
    encoded = []
    trainer.model.model.visual.register_forward_pre_hook(
        lambda module, args, kwargs: encoded.append(len(kwargs["grid_thw"])), with_kwargs=True
    )
    trainer.train()
    assert trainer.preparer.loader.decodes == len(
        {image.key for key in range(4) for image in trainer.tables.example(key).images}
    )
    assert trainer.preparer.preprocessed == 0 + 1 + 2 + 5
    assert trainer.num_images_trained == 0 + 1 + 2 + 5
    assert encoded == [6], "6 different pictures: in generation, and the policy pass goes on from there"


@pytest.mark.slow
def test_a_frozen_tower_runs_once_for_all_passes_and_iterations(make_trainer, write_rows):
    trainer = make_trainer(
        write_rows([0, 1, 2, 5]),
        freeze_vision=True,
        beta=0.1,
        num_iterations=2,
        max_steps=2,
        temperature=0.9,
        verify_model=False,
    )
    encoded = []
    for model in (trainer.model, trainer.ref_model):
        model.model.visual.register_forward_pre_hook(
            lambda module, args, kwargs: encoded.append(len(kwargs["grid_thw"])), with_kwargs=True
        )
    trainer.train()
    assert encoded == [6, 6], "6 different pictures: once with the policy, once with the reference model"
    assert trainer.preparer.preprocessed == 8


def test_image_tokens_are_never_sampled(make_trainer, write_rows):
    trainer = make_trainer(write_rows([0, 1, 2, 5]), max_completion_length=16)
    with torch.no_grad():  # make every placeholder as likely as can be
        rows = trainer.model.get_input_embeddings().weight
        rows[trainer.model.config.image_token_id] = 50 * rows.mean(0)
    batch = generation(trainer, 0, 0, 1, 1, 2, 2, 3, 3)
    assert not any(trainer.model.config.image_token_id in rollout.ids for rollout in batch.rollouts)


def test_rewards_see_answer_extras_and_images_as_the_model_sees_them(make_trainer, write_rows):
    seen = {}

    def reward(completions, **columns):
        seen.update(columns)
        return [0.0] * len(completions)

    trainer = make_trainer(write_rows([0, 1, 2, 5]), rewards=[reward])
    generation(trainer, 1, 1, 3, 3)
    assert seen["answer"] == ["red"] * 4
    assert seen["kind"] == ["1 images", "1 images", "5 images", "5 images"]
    assert [len(images) for images in seen["images"]] == [1, 1, 5, 5]
    assert (seen["images"][0][0].width, seen["images"][0][0].height) == (84, 56)
    assert seen["source"][0].endswith("rows.jsonl:2")


def test_micro_batches_hold_whole_groups(make_trainer, write_rows):
    trainer = make_trainer(write_rows([0, 1, 2, 5]), per_device_train_batch_size=4, gradient_accumulation_steps=2)
    trainer.model.train()
    trainer._prepare_inputs([{"row": key} for key in (0, 0, 1, 1, 2, 2, 3, 3)])
    chunks = [part.keys for part in trainer._buffered_inputs.parts]
    assert sorted(row for chunk in chunks for row in chunk) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert all(rows[0] == rows[1] and rows[2] == rows[3] for rows in chunks)


def test_evaluation_runs_on_held_out_rows(make_trainer, write_rows):
    trainer = make_trainer(
        write_rows([1, 2]),
        held_out=write_rows([0, 5], name="held_out.jsonl"),
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        eval_strategy="steps",
        eval_steps=1,
        max_steps=1,
    )
    trainer.train()
    assert any("eval_reward" in entry for entry in trainer.state.log_history)
    assert trainer.num_images_trained == 1 + 2, "the pace counts what is trained on, tokens as images"


def test_scores_of_a_pass_are_not_given_to_a_loss_that_hands_over_images(make_trainer, write_rows):
    """TRL's loss asks without them, because its batch has none; a version that has some would lose them here."""
    scores = TokenScores(logps_BC=torch.zeros(1, 2), entropies_BC=torch.ones(1, 2), aux_loss=torch.tensor(3.0))
    trainer, nothing = make_trainer(write_rows([0, 1])), torch.zeros(1, 0)
    found = trainer._get_per_token_logps_and_entropies(scores, nothing, nothing, 2, pixel_values=None)
    assert found == (scores.logps_BC, scores.entropies_BC, scores.aux_loss)
    with pytest.raises(IncompatibleVersionError, match="log-probabilities with pixel_values"):
        trainer._get_per_token_logps_and_entropies(scores, nothing, nothing, 2, pixel_values=nothing)


def test_rows_that_were_left_out_are_left_out_by_the_run_that_goes_on(make_trainer, write_rows):
    data = write_rows([0, 1])
    one, other = (make_trainer(data, bad_rows=BadRows(max_bad=1, num_rows=2, say=[].append)) for _ in range(2))
    one.bad_rows.refuse(1, DataError("cut short", source="rows.jsonl:2", remedy="write it again"))
    other.restore_cycle_parts(one.cycle_parts())
    assert {key: error.reason for key, error in other.bad_rows.known.items()} == {1: "cut short"}


def test_the_calls_that_the_step_file_writes_out_give_the_weights_of_the_trainer(make_trainer, write_rows, monkeypatch):
    """One step by hand, from the batch that the trainer trained on and the weights that it began with."""
    trainer = make_trainer(
        write_rows([0, 1, 2, 5]),
        max_steps=1,
        optim="sgd",
        lr_scheduler_type="constant",
        max_grad_norm=0,
        learning_rate=1.0,
    )
    begin = {name: values.clone() for name, values in trainer.model.state_dict().items()}
    batches = []
    stock = trainer._compute_loss
    monkeypatch.setattr(
        trainer, "_compute_loss", lambda model, inputs: batches.append(inputs["triptych_batch"]) or stock(model, inputs)
    )
    trainer.train()
    trained = {name: values.clone() for name, values in trainer.model.state_dict().items()}
    trainer.model.load_state_dict(begin)
    trainer.engine.forget()
    optimizer = torch.optim.SGD(trainer.model.parameters(), lr=1.0)
    optimizer.zero_grad()
    (batch,) = batches
    policy_loss(trainer.engine, trainer.model, batch, loss=trainer._loss_of_trl).backward()
    optimizer.step()
    by_hand = trainer.model.state_dict()
    assert max(float((values - begin[name]).abs().max()) for name, values in trained.items()) > 1e-4
    for name, values in trained.items():
        torch.testing.assert_close(by_hand[name], values, atol=1e-6, rtol=1e-5)
