"""A script written for TRL runs with its import changed: that of README.md, and what other scripts pass and expect."""

import re
import runpy
from pathlib import Path

import datasets
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from PIL import Image
from transformers import AutoTokenizer
from triptych_data import DataError
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
from triptych_trainer.rewards import ImageInfo
from trl import GRPOConfig, GRPOTrainer

README = Path(__file__).parents[3] / "README.md"
CPU = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
SMALL = {**CPU, "num_generations": 2, "per_device_train_batch_size": 4, "max_completion_length": 4, "max_steps": 1}


def picture(number, *, size=(56, 56), mode="RGB"):
    return Image.new("RGB", size, (40 * number, 200 - 30 * number, 90)).convert(mode)


def rows(count=2, *, column="images"):
    """Conversational rows; row k has k + 1 pictures, or one in the column `image`."""
    prompts = [[{"role": "user", "content": f"Which of {k} is red ?"}] for k in range(count)]
    found = [[picture(j, size=(56 + 28 * k, 56)) for j in range(k + 1)] for k in range(count)]
    values = found if column == "images" else [images[0] for images in found]
    return Dataset.from_dict({"prompt": prompts, column: values, "answer": ["red"] * count, "level": [3] * count})


def recording(seen):
    def reward(prompts, completions, completion_ids, **columns):
        seen.append({"prompts": prompts, "completions": completions, "completion_ids": completion_ids, **columns})
        return [float(sum(ids) % 5) for ids in completion_ids]

    return reward


def build(model_dir, tmp_path, dataset, *, trainer=MultiImageGRPOTrainer, reward_funcs=None, **changes):
    options = {name: changes.pop(name) for name in list(changes) if name in GRPOConfig.__dataclass_fields__}
    return trainer(
        model=str(model_dir),
        reward_funcs=reward_funcs or recording([]),
        args=GRPOConfig(output_dir=str(tmp_path / "out"), **{**SMALL, **options}),
        train_dataset=dataset,
        **changes,
    )


@pytest.mark.slow_except("triptych_trainer")
@pytest.mark.parametrize("import_of", ["trl", "triptych_trainer"])
def test_the_script_of_the_readme_runs_with_either_import(model_dir, tmp_path, monkeypatch, import_of):
    (script,) = [block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "trl" in block]
    ours = "from triptych_trainer import MultiImageGRPOTrainer as GRPOTrainer  # was: from trl import GRPOTrainer"
    assert ours in script
    if import_of == "trl":
        script = script.replace(ours, "from trl import GRPOTrainer")
    script = script.replace("Qwen/Qwen2.5-VL-3B-Instruct", str(model_dir))
    script = script.replace("num_generations=8", f"num_generations=8, **{ ({**CPU, 'max_steps': 1})!r}")
    script = script.replace('"out",', '"out", max_completion_length=4,')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows().to_parquet("rows.parquet")
    Path("script.py").write_text(script)
    trainer = runpy.run_path("script.py")["trainer"]
    assert trainer.state.global_step == 1
    assert "rewards/says_the_answer/mean" in trainer.state.log_history[0]
    assert all("lora" in name for name, value in trainer.model.named_parameters() if value.requires_grad)


def with_pixels(messages):
    """Messages with what can be compared of their images."""
    return [
        {**message, "content": [{**part, "image": pixels(part.get("image"))} for part in message["content"]]}
        for message in messages
    ]


def pixels(image):
    return image and (image.mode, image.size, image.tobytes())


@pytest.mark.slow_except("images")
@pytest.mark.parametrize("column", ["images", "image"])
def test_rewards_get_every_column_with_its_own_value(model_dir, tmp_path, column):
    found = {}
    for trainer in (GRPOTrainer, MultiImageGRPOTrainer):
        seen = []
        build(
            model_dir,
            tmp_path,
            rows(column=column),
            trainer=trainer,
            reward_funcs=recording(seen),
            shuffle_dataset=False,
        ).train()
        (found[trainer],) = seen
    ours, stock = found[MultiImageGRPOTrainer], found[GRPOTrainer]
    assert set(stock) <= set(ours)
    for name in ("answer", "level"):
        assert ours[name] == stock[name]
    for mine, theirs in zip(ours["prompts"], stock["prompts"], strict=True):
        assert with_pixels(mine) == with_pixels(theirs)
    for one, other in zip(ours[column], stock[column], strict=True):
        pictures = zip([one], [other], strict=True) if column == "image" else zip(one, other, strict=True)
        for mine, theirs in pictures:
            assert isinstance(mine, Image.Image)
            assert (mine.mode, mine.size, mine.tobytes()) == (theirs.mode, theirs.size, theirs.tobytes())
    infos = ours["image_infos"]
    assert all(isinstance(info, ImageInfo) for row in infos for info in row)
    assert [len(row) for row in infos] == ([1, 1, 2, 2] if column == "images" else [1] * 4)
    assert (infos[2][0].width, infos[2][0].height) == (84, 56)


@pytest.mark.slow
def test_a_dataset_in_memory_trains_adapters_and_pixels_are_decoded_when_they_are_used(model_dir, tmp_path):
    seen = []
    adapters = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear")
    trainer = build(model_dir, tmp_path, rows(), reward_funcs=recording(seen), peft_config=adapters)
    trainer.train()
    assert all("lora" in name for name, value in trainer.model.named_parameters() if value.requires_grad)
    first = seen[0]["images"][0][0]
    assert first._im is None, "only its header was read"
    assert first.getpixel((0, 0)) in [picture(k).getpixel((0, 0)) for k in range(2)]


def test_a_column_with_a_name_of_trl_s_own_stays_out_with_a_warning(model_dir, tmp_path):
    seen = []
    data = rows().add_column("completions", ["mine", "too"]).add_column("source", ["book", "film"])
    data = data.add_column("completion_ids", [[1], [2]])
    trainer = build(model_dir, tmp_path, data, reward_funcs=recording(seen), shuffle_dataset=False)
    with pytest.warns(
        UserWarning, match=r"rewards do not get the data's columns completions, completion_ids: .*rename the columns"
    ):
        trainer.train()
    assert seen[0]["completions"][0][0]["role"] == "assistant"
    assert seen[0]["source"] == ["book", "book", "film", "film"]


def test_no_column_but_the_key_reaches_trl(model_dir, tmp_path):
    """A column `image` made TRL open a file outside the image root, or fetch an address."""
    data = Dataset.from_dict({"prompt": ["a", "b"], "trainer_state": [1, 2], "environment": ["x", "y"]})
    trainer = build(model_dir, tmp_path, data, shuffle_dataset=False)
    assert next(iter(trainer.get_train_dataloader())) == [{"row": 0}, {"row": 0}, {"row": 1}, {"row": 1}]


@pytest.mark.slow
def test_workers_of_a_script_are_threads_that_decode_images(model_dir, tmp_path):
    data = rows()
    workers = {"dataloader_persistent_workers": True, "dataloader_prefetch_factor": 2}
    trainer = build(model_dir, tmp_path, data, dataloader_num_workers=3, **workers)
    assert trainer.train_dataset is data
    assert trainer.get_train_dataloader().num_workers == 0
    trainer.train()
    loader = trainer.preparer.loader
    assert len(loader._threads) == 3
    assert loader.decodes == 3, "each picture of the two rows once"


@pytest.mark.slow
def test_options_that_trl_takes_and_its_step_does_not_read_change_nothing_but_the_log(model_dir, tmp_path):
    options = {"label_names": ["labels"], "average_tokens_across_devices": False, "include_num_input_tokens_seen": True}
    found = []
    for trainer in (GRPOTrainer, MultiImageGRPOTrainer):
        trained = build(model_dir, tmp_path, rows(), trainer=trainer, **options)
        trained.train()
        found.append({name for logs in trained.state.log_history for name in logs})
        assert trained.state.log_history[0]["num_input_tokens_seen"] == trained.state.log_history[0]["num_tokens"]
    assert "num_input_tokens_seen" in found[0]
    assert found[0] <= found[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    ["one", "dict", "DatasetDict", "later"],
)
def test_evaluation_datasets_are_taken_as_trl_takes_them(model_dir, tmp_path, how):
    held_out = rows(3)
    given = {
        "one": held_out,
        "dict": {"few": rows(1), "many": held_out},
        "DatasetDict": datasets.DatasetDict(few=rows(1), many=held_out),
        "later": None,
    }[how]
    options = {"per_device_eval_batch_size": 4, "eval_strategy": "steps", "eval_steps": 1} if given is not None else {}
    trainer = build(model_dir, tmp_path, rows(), eval_dataset=given, **options)
    assert trainer.eval_dataset is given
    trainer.train()
    logged = {name for entry in trainer.state.log_history for name in entry}
    if how == "one":
        assert "eval_reward" in logged
    if how in ("dict", "DatasetDict"):
        assert {"eval_few_reward", "eval_many_reward"} <= logged or "eval_reward" in logged
    metrics = trainer.evaluate(eval_dataset=rows(2))
    assert "eval_loss" in metrics
    assert torch.isfinite(torch.tensor(trainer.predict(rows(1)).metrics["test_loss"]))
    assert trainer.tables.columns(0)["level"] == 3


class Guess:
    """Owns the task, so that a script has no rows."""

    def reset(self) -> str:
        return "Guess the word."

    def try_word(self, word: str) -> str:
        """Try a word.

        Args:
            word: what to try.
        """
        return "no"


@pytest.mark.slow
def test_an_environment_gives_the_tasks_where_a_script_has_no_dataset(model_dir, tmp_path):
    seen = []
    trainer = build(model_dir, tmp_path, None, reward_funcs=recording(seen), environment_factory=Guess)
    trainer.train()
    assert {str(prompt).count("Guess the word.") for prompt in seen[0]["prompts"]} == {1}
    assert len(seen[0]["prompts"]) == 4
    with pytest.raises(
        UsageError, match=r"train_dataset is missing: .*max_steps -1 does not say how long .*set max_steps"
    ):
        build(model_dir, tmp_path, None, environment_factory=Guess, max_steps=-1)


def test_scores_of_a_model_that_a_script_gives_are_trl_s(model_dir, tmp_path):
    trainer = build(model_dir, tmp_path, rows(), entropy_coef=0.1)
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    logps, entropies, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model, ids, torch.ones_like(ids), logits_to_keep=2, compute_entropy=True
    )
    expected = trainer.model(input_ids=ids, use_cache=False).logits[:, 3:5].log_softmax(dim=-1)
    assert torch.allclose(logps, expected.gather(2, ids[:, 4:, None])[..., 0], atol=1e-5)
    assert torch.allclose(entropies, -(expected.exp() * expected).sum(dim=-1), atol=1e-5)
    assert entropies.requires_grad


def test_several_rewards_and_one_by_name_keep_their_order(model_dir, tmp_path):
    def first(completions, **_):
        return [1.0] * len(completions)

    def second(completions, **_):
        return [2.0] * len(completions)

    trainer = build(model_dir, tmp_path, rows(), reward_funcs=[first, second], reward_weights=[1.0, 0.5])
    trainer.train()
    assert trainer.state.log_history[0]["reward"] == 2.0
    assert trainer.reward_func_names == ["first", "second"]


def test_arguments_are_optional(model_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = MultiImageGRPOTrainer(str(model_dir), recording([]), train_dataset=rows())
    assert trainer.args.output_dir == f"{model_dir.name}-GRPO"
    assert trainer.num_generations == GRPOConfig.num_generations


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"train_dataset": rows().to_iterable_dataset()},
            r"train_dataset is an IterableDataset, whose rows have no num",
        ),
        ({"eval_dataset": {"a": rows().to_iterable_dataset()}}, r"eval_dataset\['a'\] is an IterableDataset"),
        (
            {"train_dataset": [{"prompt": "a"}]},
            r"train_dataset: expected a datasets.Dataset or a table .*got list; make",
        ),
        ({"environment_factory": {}}, r"environment_factory: expected an environment, got an empty mapping"),
        ({"environment_factory": object}, r"environment_factory: object has no method `reset\(\*\*row\)`"),
        ({"chat_template_kwargs": {"tokenize": False}}, "^chat_template_kwargs tokenize: .* as text .*; leave it out"),
        (
            {"tools": [lambda x: x]},
            r"the tool <lambda> cannot be described to the model \(.*; give every",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_taken_is_refused_in_one_sentence(model_dir, tmp_path, changes, expected):
    data = changes.pop("train_dataset", rows())
    with pytest.raises(UsageError, match=expected):
        build(model_dir, tmp_path, data, **changes)


def test_a_tokenizer_in_the_place_of_a_processor_is_refused_with_the_row(model_dir, tmp_path):
    trainer = build(model_dir, tmp_path, rows(), processing_class=AutoTokenizer.from_pretrained(model_dir))
    expected = r"train_dataset\[0\]: the row contains images, .*; pass the model's processor as processing_class"
    with pytest.raises(DataError, match=expected):
        trainer.prompt_of(0)


def test_without_a_dataset_trl_says_so(model_dir, tmp_path):
    with pytest.raises(ValueError, match="`train_dataset` is required"):
        build(model_dir, tmp_path, None)


def test_the_signature_begins_with_that_of_trl():
    import inspect

    ours = list(inspect.signature(MultiImageGRPOTrainer.__init__).parameters.values())
    stock = list(inspect.signature(GRPOTrainer.__init__).parameters.values())
    assert [(p.name, p.kind, p.default) for p in ours[: len(stock)]] == [(p.name, p.kind, p.default) for p in stock]
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in ours[len(stock) :])
