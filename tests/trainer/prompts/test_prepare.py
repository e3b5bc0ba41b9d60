"""A prompt is prepared once: ids, spans and pixels agree with the stock processor's own call."""

from dataclasses import replace

import pytest
import torch
from triptych_data import DataError, ImageLoader, load_image, read_examples
from triptych_data.prompt_settings import PromptSettings
from triptych_trainer.errors import UsageError
from triptych_trainer.models.load import freeze_vision_modules, load_model, load_processor
from triptych_trainer.prompts.prepare import PromptPreparer
from trl import ModelConfig


@pytest.fixture
def preparer(model_dir):
    with ImageLoader(threads=1) as loader:
        yield PromptPreparer(load_processor(str(model_dir)), loader=loader, keep=2)


def test_ids_and_pixels_equal_the_stock_processor(preparer, write_rows):
    for example in read_examples(write_rows([0, 1, 2, 5])):
        prepared = preparer(example)
        images = [load_image(source) for source in example.images]
        chat = preparer.processor.apply_chat_template(example.prompt.messages(), add_generation_prompt=True)
        stock = preparer.processor(text=[chat], images=images or None, return_tensors="pt")
        assert prepared.ids == stock["input_ids"][0].tolist()
        if images:
            pixels = torch.cat([inputs["pixel_values"] for inputs in prepared.image_inputs])
            assert torch.equal(pixels, stock["pixel_values"])
        placeholder = preparer.processor.image_token_id
        for span in prepared.spans:
            for start, length in span.runs:
                assert set(prepared.ids[start : start + length]) == {placeholder}
        assert prepared.ids.count(placeholder) == sum(length for span in prepared.spans for _, length in span.runs)


def test_an_image_whose_pixels_have_another_name_keeps_the_size_it_was_decoded_with(preparer, write_rows, monkeypatch):
    (example,) = read_examples(write_rows([1]))
    pixels = {"pixel_values_images": torch.zeros(1, 3, 4, 4)}  # as Video-LLaVA's processor calls them
    monkeypatch.setattr(preparer.family, "preprocess", lambda process, images: (pixels,), raising=False)
    prepared = preparer(example)
    assert prepared.model_sizes == prepared.image_sizes


def test_kept_prompts_are_not_prepared_again(preparer, write_rows):
    examples = list(read_examples(write_rows([1, 2, 1])))
    first = preparer(examples[0])
    assert preparer(examples[0]) is first
    assert preparer.preprocessed == 1
    preparer(examples[1])
    preparer(examples[2])
    assert preparer(examples[0]) is not first, "only the last two are kept"


def test_prefetch_decodes_ahead(preparer, write_rows):
    example = read_examples(write_rows([3]))[0]
    preparer.prefetch(example)
    preparer.loader.get(example)
    assert preparer.loader.decodes == 3


def test_a_prompt_that_is_too_long_names_the_row(preparer, write_rows):
    preparer.settings = PromptSettings(max_prompt_tokens=10)
    with pytest.raises(
        DataError, match=r"rows\.jsonl:1 \(id row-0\): expected at most 10 prompt tokens, got \d+, 10 of them for 2"
    ):
        preparer(read_examples(write_rows([2]))[0])


def test_pixel_budget_changes_the_number_of_tokens(model_dir, write_rows):
    example = read_examples(write_rows([1]))[0]
    counts = []
    for pixels in (28 * 28, 56 * 84):
        processor = load_processor(str(model_dir), min_pixels=28 * 28, max_pixels=pixels)
        with ImageLoader(threads=1) as loader:
            spans = PromptPreparer(processor, loader=loader)(example).spans
            counts.append(sum(length for span in spans for _, length in span.runs))
    assert counts == [1, 4]


def test_freezing_leaves_the_language_model_trainable(model_dir):
    model = load_model(str(model_dir), ModelConfig(dtype="float32"))
    frozen = freeze_vision_modules(model)
    assert frozen == sum(p.numel() for p in model.model.visual.parameters())
    assert all(p.requires_grad for p in model.model.language_model.parameters())


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(UsageError, match="no processor can be loaded"):
        load_processor(str(tmp_path))


def test_a_chat_template_that_moves_images_is_refused_or_written_around(model_dir, write_rows):
    processor = load_processor(str(model_dir))
    processor.chat_template = (
        "{% for message in messages %}{% for part in message['content'] if part['type'] == 'image' %}"
        "<|vision_start|><|image_pad|><|vision_end|>{% endfor %}"
        "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}{% endfor %}"
    )
    example = read_examples(write_rows([2]))[0]
    first = {}
    with ImageLoader(threads=1) as loader:
        with pytest.raises(DataError, match="inline"):
            PromptPreparer(processor, loader=loader)(example)
        for choice in ("inline", "template"):
            preparer = PromptPreparer(processor, loader=loader, settings=PromptSettings(chat_template_images=choice))
            first[choice] = preparer(example).spans[0].start
    assert first["template"] == 0, "where the template puts it"
    assert first["inline"] > 0, "after the text before its marker"


def image_tokens(prepared):
    return [sum(length for _, length in span.runs) for span in prepared.spans]


def test_the_images_of_a_prompt_share_a_budget(model_dir, write_rows):
    processor = load_processor(str(model_dir))
    example = read_examples(write_rows([5]))[0]
    with ImageLoader(threads=1) as loader:
        free = PromptPreparer(processor, loader=loader)(example)
        settings = PromptSettings(max_prompt_image_tokens=16)
        capped = PromptPreparer(processor, loader=loader, settings=settings)(example)
        assert sum(image_tokens(free)) > 16 >= sum(image_tokens(capped))
        for prepared in (free, capped):
            rows = [int(inputs["image_grid_thw"].prod()) // 4 for inputs in prepared.image_inputs]
            assert rows == image_tokens(prepared), "what is tokenized is what is encoded"
        with pytest.raises(DataError, match=r"rows\.jsonl:1 \(id row-0\): .*at most 4 image tokens"):
            PromptPreparer(processor, loader=loader, settings=PromptSettings(max_prompt_image_tokens=4))(example)


def test_a_rows_own_limit_holds_for_its_image(model_dir, write_rows):
    example = read_examples(write_rows([2]))[0]
    small = replace(example.images[1], max_pixels=28 * 28)
    example = replace(example, images=(example.images[0], small))
    with ImageLoader(threads=1) as loader:
        prepared = PromptPreparer(load_processor(str(model_dir)), loader=loader)(example)
    assert image_tokens(prepared) == [4, 1]
    assert prepared.model_sizes[1] == (28, 28)


def test_settings_that_an_image_processor_refuses_name_the_row(model_dir, write_rows):
    processor = load_processor(str(model_dir))
    processor.image_processor.image_mean = [0.5, 0.5]
    with ImageLoader(threads=1) as loader, pytest.raises(DataError) as caught:
        PromptPreparer(processor, loader=loader)(read_examples(write_rows([1]))[0])
    assert "rows.jsonl:1 (id row-0): Qwen2VLImageProcessor" in str(caught.value)
    assert "refuses the images of the row (RuntimeError: The size of tensor a (3) must match" in str(caught.value)
