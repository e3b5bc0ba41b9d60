"""The inputs of the stock forward are the processor's own, whatever stands in the text."""

import pytest
import torch
from triptych_data import ImageLoader, load_image, read_examples
from triptych_data.prompt_settings import PromptSettings
from triptych_trainer.models.load import load_processor
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.verification.stock_inputs import stock_inputs


@pytest.fixture
def preparer(model_dir):
    with ImageLoader(threads=1) as loader:
        yield PromptPreparer(load_processor(str(model_dir)), loader=loader)


def rows(write_rows, tmp_path, text):
    """One row of two images with a text of its own."""
    path = write_rows([2])
    written = path.read_text().replace("Which ?", text)
    path.write_text(written)
    return read_examples(path)[0]


def test_they_are_what_the_processor_returns_for_the_messages(preparer, write_rows):
    for example in read_examples(write_rows([0, 1, 5])):
        prompt = preparer(example)
        chat = preparer.processor.apply_chat_template(
            example.prompt.messages(), add_generation_prompt=True, tokenize=False
        )
        images = [load_image(source) for source in example.images]
        expected = preparer.processor(text=[chat], images=images or None, return_tensors="pt")
        found = stock_inputs(prompt, preparer)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_text_that_looks_like_a_special_token_keeps_the_prompts_own_ids(preparer, write_rows, tmp_path):
    prompt = preparer(rows(write_rows, tmp_path, "Is <|image_pad|> a word ?"))
    found = stock_inputs(prompt, preparer)
    assert found["input_ids"][0].tolist() == prompt.ids
    places = {place for span in prompt.spans for start, count in span.runs for place in range(start, start + count)}
    types = found["mm_token_type_ids"][0].tolist()
    assert types == [int(place in places) for place in range(len(prompt.ids))]
    pixels = torch.cat([inputs["pixel_values"] for inputs in prompt.image_inputs])
    assert torch.equal(found["pixel_values"], pixels)
    assert found["attention_mask"].tolist() == [[1] * len(prompt.ids)]


def test_images_that_the_run_resizes_are_taken_as_it_resizes_them(preparer, write_rows):
    preparer.settings = PromptSettings(max_prompt_image_tokens=8)
    prompt = preparer(read_examples(write_rows([2]))[0])
    assert sum(span.num_features for span in prompt.spans) <= 8
    found = stock_inputs(prompt, preparer)
    assert found["input_ids"][0].tolist() == prompt.ids
    grids = torch.cat([inputs["image_grid_thw"] for inputs in prompt.image_inputs])
    assert torch.equal(found["image_grid_thw"], grids)


def test_a_text_only_prompt_that_the_processor_refuses_is_its_ids_alone(preparer, write_rows, monkeypatch):
    prompt = preparer(read_examples(write_rows([0]))[0])
    monkeypatch.setattr(type(preparer.processor), "__call__", lambda self, **_: {}["images"])
    found = stock_inputs(prompt, preparer)
    assert found.keys() == {"input_ids", "attention_mask"}
    assert found["input_ids"][0].tolist() == prompt.ids
