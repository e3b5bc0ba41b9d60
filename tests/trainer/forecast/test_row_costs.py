"""Tokens counted from headers are those that training counts from pixels."""

import torch
from triptych_data import ImageLoader, read_examples
from triptych_data.prompt_settings import PromptSettings
from triptych_trainer.demo import build_model
from triptych_trainer.forecast.row_costs import RowCounter, group_batch, heaviest
from triptych_trainer.models.families import family_of
from triptych_trainer.models.load import load_processor
from triptych_trainer.prompts.prepare import PromptPreparer


def test_ids_spans_and_input_shapes_are_those_of_training(model_dir, write_rows):
    examples = list(read_examples(write_rows([0, 1, 5, 2])))
    processor = load_processor(str(model_dir))
    family = family_of(build_model(0))
    for tokens in (None, 12):
        settings = PromptSettings(max_prompt_image_tokens=tokens)
        counter = RowCounter(processor, settings)
        with ImageLoader(threads=1) as loader:
            prepare = PromptPreparer(processor, loader=loader, family=family, settings=settings)
            for example, row in zip(examples, counter.count(examples), strict=True):
                prepared = prepare(example)
                ids, spans, inputs = counter.prompt(row, family=family)
                assert (ids, spans) == (prepared.ids, prepared.spans)
                assert row.num_tokens == len(prepared.ids)
                assert row.image_tokens == sum(length for span in prepared.spans for _, length in span.runs)
                for planned, real in zip(inputs, prepared.image_inputs, strict=True):
                    assert {k: v.shape for k, v in planned.items()} == {k: v.shape for k, v in real.items()}
                    assert torch.equal(planned["image_grid_thw"], real["image_grid_thw"])


def test_another_pixel_limit_recounts_as_a_run_with_it_would(model_dir, write_rows):
    examples = list(read_examples(write_rows([0, 1, 5, 2])))
    counter = RowCounter(load_processor(str(model_dir)), PromptSettings())
    recounted = counter.with_pixels(2 * 784).recount(counter.count(examples))
    fresh = RowCounter(load_processor(str(model_dir), max_pixels=2 * 784), PromptSettings()).count(examples)
    assert [row.num_tokens for row in recounted] == [row.num_tokens for row in fresh]
    assert recounted[2].image_tokens < counter.count(examples)[2].image_tokens


def test_heaviest_rows(model_dir, write_rows):
    examples = list(read_examples(write_rows([1, 5, 0, 2, 2])))
    counter = RowCounter(load_processor(str(model_dir)), PromptSettings())
    rows = counter.count(examples)
    assert heaviest(rows, 2)[0].example.id == "row-1"
    batch = group_batch(
        heaviest(rows, 2), counter=counter, family=family_of(build_model(0)), group_sizes=(3, 1), completion_tokens=4
    )
    assert batch.group_sizes == (3, 1)
    assert len(batch.images) == len(rows[1].images.sizes) + len(heaviest(rows, 2)[1].images.sizes)
