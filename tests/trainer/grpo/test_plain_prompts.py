"""Prompts of plain text in rows without images: tokenized as they are, whatever they look like, as in TRL."""

import pytest
from datasets import Dataset
from PIL import Image
from triptych_data import DataError, ImageLoader
from triptych_data.prompt_settings import PromptSettings
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
from triptych_trainer.prompts.dataset_table import DatasetTable
from triptych_trainer.prompts.prepare import PromptPreparer
from trl import GRPOConfig, GRPOTrainer

RENDERED = "<|im_start|>user\nWhich is red ?<|im_end|>\n<|im_start|>assistant\n"
TEXTS = [
    RENDERED,
    "What is <image> in html ?",
    'Write <img src="a.png"> for the <video> and the <bbox> .',
    "shot.png",
    '[{"type": "text", "text": "hi"}]',
    "data:image/png;base64,iVBORw0KGgo=",
    "[INST] Which <image 1> ? [/INST]",
]


def table(*texts, **columns):
    return DatasetTable(Dataset.from_dict({"prompt": texts, **columns}), name="train_dataset")


@pytest.fixture
def prepared(loaded):
    """Prepare a row of a table."""

    def prepare(table, row=0, **settings):
        with ImageLoader(threads=1) as loader:
            preparer = PromptPreparer(loaded[1], loader=loader, settings=PromptSettings(**settings))
            return preparer.plain(table.example(row), table.prompt(row))

    return prepare


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_tokenized_as_it_is(loaded, prepared, text):
    rows = table(text, level=[3])
    found = prepared(rows)
    assert found.ids == loaded[1](text=[text])["input_ids"][0]
    assert found.ending == loaded[1].tokenizer.decode(found.ids[-64:])
    assert [segment.text for segment in found.example.prompt.prompt.turns[0].segments] == [text]
    assert (rows.prompt(0), rows.columns(0)["level"], found.example.columns["prompt"]) == (text, 3, text)


def test_a_placeholder_without_its_image_is_refused_with_the_row(prepared):
    with pytest.raises(
        DataError, match=r"train_dataset\[1\]: expected a text without placeholders of images, got <\|im"
    ):
        prepared(table("good", f"<|vision_start|><|image_pad|><|vision_end|>{RENDERED}"), 1)


def test_a_text_that_is_too_long_is_refused_with_both_numbers(prepared):
    with pytest.raises(DataError, match="expected at most 2 prompt tokens, got [0-9]+, 0 of them for 0 images; raise"):
        prepared(table(RENDERED), max_prompt_tokens=2)


def test_a_marker_in_a_row_that_lacks_its_image_is_refused():
    shown = Image.new("RGB", (56, 56))
    rows = table("Which <image> ?", "Which <image> ?", "[INST] Which ? [/INST]", images=[[shown], [], []])
    assert rows.example(0).prompt.num_images == 1
    with pytest.raises(DataError, match=r"train_dataset\[1\]: expected an image for the marker in prompt, got none"):
        rows.example(1)
    assert rows.example(2).prompt.pieces() == [["[INST] Which ? [/INST]"]]


@pytest.mark.slow
def test_two_steps_equal_those_of_stock_trl(model_dir, tmp_path):
    logged = []
    for trainer in (GRPOTrainer, MultiImageGRPOTrainer):
        seen = []

        def reward(prompts, completion_ids, seen=seen, **columns):
            seen.extend(zip(prompts, completion_ids, strict=True))
            return [float(sum(ids) % 5) for ids in completion_ids]

        own = {"num_generations": 2, "per_device_train_batch_size": 4, "max_completion_length": 4, "max_steps": 2}
        args = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", logging_steps=1, **own)
        made = trainer(str(model_dir), reward, args=args, train_dataset=Dataset.from_dict({"prompt": TEXTS}))
        made.train()
        logged.append((seen, [line["grad_norm"] for line in made.state.log_history if "grad_norm" in line]))
    (expected, norms), (found, own_norms) = logged
    assert found == expected
    assert own_norms == pytest.approx(norms, rel=1e-3)
