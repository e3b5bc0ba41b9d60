"""`evaluate` and `predict` of a script for TRL, and the precision that it does not choose: as with TRL's trainer."""

import copy
import gc
import math
import weakref

import datasets
import pytest
from datasets import Dataset
from PIL import Image
from triptych_data import DataError
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
from triptych_trainer.prompts.bad_rows import BadRows
from trl import GRPOConfig, GRPOTrainer

QUIET = {"use_cpu": True, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
SIZES = {"num_generations": 2, "per_device_train_batch_size": 4, "per_device_eval_batch_size": 4}


def rows(count=3):
    """Conversational rows with ids; row k has k + 1 pictures, of another size in each row."""
    prompts = [[{"role": "user", "content": f"Which of {k} is red ?"}] for k in range(count)]
    pictures = [[Image.new("RGB", (56 + 28 * k, 56), (40 * j, 90, 90)) for j in range(k + 1)] for k in range(count)]
    return Dataset.from_dict({"id": [f"row {k}" for k in range(count)], "prompt": prompts, "images": pictures})


def texts(count=2):
    return Dataset.from_dict({"id": [f"text {k}" for k in range(count)], "prompt": ["Is it red ?"] * count})


@pytest.fixture
def build(model_dir, tmp_path):
    """A trainer of a class, whose reward writes down what it got."""

    def build(trainer=MultiImageGRPOTrainer, *, seen=None, train_dataset=None, **options):
        def reward(completions, completion_ids, id, images=None, **_):
            counts = [0] * len(id) if images is None else [len(of_row) for of_row in images]
            scores = [float(sum(ids) % 5) for ids in completion_ids]
            if seen is not None:
                seen.extend(zip(id, completions, counts, scores, strict=True))
            return scores

        own = {name: options.pop(name, None) for name in ("eval_dataset", "processing_class")}
        args = GRPOConfig(
            str(tmp_path / "out"), **{"bf16": False, **QUIET, **SIZES, "max_completion_length": 4, **options}
        )
        return trainer(str(model_dir), reward, args=args, train_dataset=train_dataset or rows(2), **own)

    return build


def test_predictions_are_those_of_trl_and_have_the_means_that_trl_leaves_to_the_next_evaluation(build):
    found = {}
    for trainer in (GRPOTrainer, MultiImageGRPOTrainer):
        seen = []
        built = build(trainer, seen=seen)
        found[trainer] = built.predict(rows()), seen
        assert built._metrics["eval"] == {} or trainer is GRPOTrainer
    (ours, mine), (stock, theirs) = found[MultiImageGRPOTrainer], found[GRPOTrainer]
    assert mine == theirs, "the same rows in the same order, each twice, with the same completions"
    assert sorted(id for id, *_ in mine) == [f"row {k}" for k in range(3) for _ in range(2)]
    assert {(id, count) for id, _, count, _ in mine} == {(f"row {k}", k + 1) for k in range(3)}
    assert (ours.predictions, ours.label_ids) == (stock.predictions, stock.label_ids) == (None, None)
    assert set(stock.metrics) <= set(ours.metrics)
    assert math.isclose(ours.metrics["test_loss"], stock.metrics["test_loss"], abs_tol=1e-6)
    batches = [[score for *_, score in mine[first : first + 4]] for first in (0, 4)]
    assert ours.metrics["test_reward"] == sum(sum(batch) / len(batch) for batch in batches) / 2
    assert ours.metrics["test_completions/mean_length"] == 4


@pytest.mark.slow
def test_an_evaluation_counts_nothing_of_a_prediction_before_it(build):
    seen = []
    trainer = build(seen=seen)
    trainer.predict(rows())
    seen.clear()
    trainer.evaluate(rows(1))
    assert [id for id, *_ in seen] == ["row 0"] * 2
    assert trainer.state.log_history[-1]["eval_reward"] == sum(score for *_, score in seen) / 2
    assert trainer.state.num_input_tokens_seen == trainer.state.log_history[-1]["eval_num_tokens"] == 0, "of training"


def test_an_evaluation_takes_several_datasets_of_texts_and_conversations(build):
    seen = []
    trainer = build(seen=seen, train_dataset=texts())
    metrics = trainer.evaluate(eval_dataset={"texts": texts(3), "pictures": rows(1)})
    assert {"eval_texts_loss", "eval_pictures_loss"} <= set(metrics)
    kinds = {id: type(completion) for id, completion, *_ in seen}
    assert kinds == {"text 0": str, "text 1": str, "text 2": str, "row 0": list}


@pytest.mark.parametrize("how", ["predict", "evaluate"])
def test_what_cannot_be_evaluated_is_refused_in_one_sentence(build, how):
    trainer, name = build(), {"predict": "test_dataset", "evaluate": "eval_dataset"}[how]
    for data, expected in (
        (rows().to_iterable_dataset(), f"{name} is an IterableDataset, whose rows have no numbers"),
        ([{"prompt": "a"}], f"{name}: expected a datasets.Dataset or a table of examples, got list"),
        (texts().select([]), f"{name} has no rows; pass a dataset that has, or leave it out"),
        *(
            [({"few": rows(1), "none": texts().select([])}, r"eval_dataset\['none'\] has no rows")]
            * (how == "evaluate")
        ),
    ):
        with pytest.raises(UsageError, match=expected):
            getattr(trainer, how)(data)
    if how == "predict":
        with pytest.raises(UsageError, match="test_dataset: .*got DatasetDict; pass one of its parts: 'few'"):
            trainer.predict(datasets.DatasetDict(few=rows()))


def test_an_evaluation_dataset_without_rows_is_refused_when_a_trainer_is_built(build):
    with pytest.raises(UsageError, match=r"eval_dataset\['none'\] has no rows; pass a dataset that has"):
        build(eval_dataset={"none": texts().select([])})


def test_the_chat_template_gets_the_arguments_of_the_configuration(build, loaded):
    processor = copy.deepcopy(loaded[1])
    processor.chat_template = "{{ greeting }}" + processor.chat_template
    trainer = build(processing_class=processor, chat_template_kwargs={"greeting": "red red"})
    assert processor.tokenizer.decode(trainer.prompt_of(1).ids).startswith("red red")


@pytest.mark.slow
def test_a_script_that_chooses_no_precision_trains_on_a_cpu_as_with_trl(build):
    """TRL's default is bfloat16 by autocast, also on a CPU."""
    found = {}
    for trainer in (GRPOTrainer, MultiImageGRPOTrainer):
        seen = []
        built = build(trainer, seen=seen, bf16=None, max_steps=1, learning_rate=1e-3, logging_steps=1)
        assert built.args.bf16
        built.train()
        found[trainer] = seen, built.state.log_history[0]
    (mine, ours), (theirs, stock) = found[MultiImageGRPOTrainer], found[GRPOTrainer]
    assert mine == theirs
    assert ours["reward"] == stock["reward"]
    assert ours["reward_std"] > 0
    assert math.isclose(ours["grad_norm"], stock["grad_norm"], rel_tol=0.05)
    assert math.isclose(ours["loss"], stock["loss"], abs_tol=2e-3)


@pytest.mark.slow
def test_whoever_is_told_of_rollouts_hears_of_training_and_of_evaluation(build):
    trainer, told = build(max_steps=1), []
    trainer.on_rollouts = lambda groups, *, step, mode: told.append((step, mode, len(groups)))
    trainer.train()
    trainer.evaluate(rows(1))
    assert told == [(0, "train", 2), (1, "eval", 1)]


@pytest.mark.slow_except("evaluate")
@pytest.mark.parametrize("how", ["predict", "evaluate"])
def test_a_dataset_that_was_evaluated_is_forgotten(build, how):
    """A trainer kept every dataset that it was ever asked to evaluate."""
    trainer, seen, kept = build(), [], []
    trainer.on_rollouts = lambda groups, **_: seen.append([scored.group.key for scored in groups])
    trainer.bad_rows = BadRows(max_bad=5, num_rows=2, say=lambda _: None)
    trainer.bad_rows.refuse(1, DataError("it is cut", source="train_dataset[1]", remedy="replace it"))
    for size in (1, 2, 1):
        data = rows(size)
        kept.append(weakref.ref(data))
        getattr(trainer, how)(data if how == "predict" else {"passed": data})
        assert len(trainer.tables) == 2, "the rows of the training table"
        assert set(trainer.bad_rows.known) == {1}
    del data
    gc.collect()
    assert [reference() for reference in kept] == [None] * 3
    assert [sorted(keys) for keys in seen] == [[2], [2, 3], [2]]


@pytest.mark.slow
def test_a_row_that_is_left_out_in_an_evaluation_says_nothing_of_the_next_dataset(build, tmp_path):
    trainer, told = build(), []
    trainer.bad_rows = BadRows(max_bad=5, num_rows=2, say=told.append)
    cut = tmp_path / "cut.png"
    Image.new("RGB", (56, 56)).save(cut)
    cut.write_bytes(cut.read_bytes()[:-30])
    broken = rows(2).select([1, 1]).cast_column("images", datasets.List(datasets.Image(decode=False)))
    broken = broken.map(
        lambda row, k: {"images": [{"bytes": cut.read_bytes(), "path": None}]} if k == 0 else row, with_indices=True
    )
    broken = broken.cast_column("images", datasets.List(datasets.Image()))
    trainer.evaluate({"whole": rows(1), "cut": broken})
    assert len(told) == 1
    assert "eval_dataset['cut'][0]" in told[0], "the part is named"
    seen = []
    trainer.on_rollouts = lambda groups, **_: seen.extend(scored.group.key for scored in groups)
    trainer.evaluate(rows(3))
    assert sorted(seen) == [2, 3, 4]


def test_an_unknown_name_of_an_evaluation_dataset_is_refused(build):
    with pytest.raises(UsageError, match=r"expected one of 'few', 'more', got the name 'most'"):
        build(eval_dataset={"few": rows(1), "more": rows(2)}).evaluate("most")
    with pytest.raises(UsageError, match=r"expected a dataset, got the name 'most'"):
        build(eval_dataset=rows(1)).evaluate("most")


def test_a_dataset_that_is_passed_again_keeps_its_keys(build):
    trainer, again = build(), rows(2)
    first, second = ([*trainer.tables.keys_of(again, name="eval_dataset")] for _ in range(2))
    assert first == second
    assert len(trainer.tables) == 4, "two rows of training, and two more once"


@pytest.mark.slow_except("False")
@pytest.mark.parametrize("removed", [True, False])
def test_rewards_get_the_columns_of_rows_unless_these_are_removed_as_in_trl(build, removed):
    trainer = build(max_steps=1, remove_unused_columns=removed)
    got = []
    trainer.reward_funcs = [lambda completions, **given: got.append(set(given)) or [0.0] * len(completions)]
    trainer.reward_func_names = ["own"]
    trainer.train()
    assert {"id", "images"} & got[0] == ({"images"} if removed else {"id", "images"})
