"""Rows as a run sees them: refusals in the words of `triptych check`, tokens and sizes those of the preparer."""

import json

import pytest
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.processing_llava import LlavaProcessor
from triptych_data import ImageLoader, read_examples
from triptych_data.check import main as check
from triptych_data.describe import describe
from triptych_data.model_tokens import ModelTokens
from triptych_data.preview.collecting import open_sources, problems_of, shown_rows
from triptych_data.preview.counting import written
from triptych_data.prompt_settings import PromptSettings
from triptych_trainer.demo import build_tokenizer
from triptych_trainer.models.load import load_processor
from triptych_trainer.prompts.prepare import PromptPreparer

GOOD = ("screens", "first", "twice", "hostile", "large", "screens-again", "open", "tiny")
LIMITS = [{}, {"max_pixels": 28 * 28 * 4}, {"min_pixels": 56 * 56}, {"max_prompt_image_tokens": 10}]


def rows_of(path, *, model=None, min_pixels=None, max_pixels=None, **settings):
    if model is not None:
        model = ModelTokens.of(load_processor(str(model), min_pixels=min_pixels, max_pixels=max_pixels))
    found = shown_rows(open_sources([str(path)]), model=model, settings=PromptSettings(**settings))
    return {row.id or row.source: row for row in found}


@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_tokens_and_sizes_are_those_of_a_run(data, model_dir, limits):
    rows = rows_of(data, model=model_dir, **limits)
    pixels = {name: value for name, value in limits.items() if name.endswith("_pixels")}
    settings = PromptSettings(max_prompt_image_tokens=limits.get("max_prompt_image_tokens"))
    examples = read_examples(data, on_bad="skip", max_bad=100)
    processor = load_processor(str(model_dir), **pixels)
    compared = []
    with ImageLoader(threads=1) as loader:
        prepare = PromptPreparer(processor, loader=loader, settings=settings)
        for example in examples:
            if example.id not in GOOD:
                continue
            prepared, row = prepare(example), rows[example.id]
            image_tokens = [sum(length for _, length in span.runs) for span in prepared.spans]
            assert row.tokens == (sum(image_tokens), len(prepared.ids)), example.id
            assert tuple(image.model_size for image in row.images) == prepared.model_sizes
            for span, tokens in zip(prepared.spans, image_tokens, strict=True):
                assert row.images[span.image].tokens == tokens
            compared.append(example.id)
    assert sorted(compared) == sorted(GOOD)


def test_a_prompt_is_written_as_its_tokens_read(data, model_dir):
    model = ModelTokens.of(load_processor(str(model_dir)))
    example = next(shown_rows(open_sources([str(data)]))).example
    text = written(describe(example, model=model, settings=PromptSettings()), model)
    image = "<|vision_start|><|image_pad|> (x 8)<|vision_end|>"
    said = f"Before: {image}\nAfter: after the tap: {image}\nWhat changed?"
    messages = [{"role": "user", "content": [{"type": "text", "text": said}]}]
    assert text == model.processor.apply_chat_template(messages, add_generation_prompt=True)


def test_a_processor_with_a_rule_of_its_own_is_asked_for_tokens_and_claims_no_sizes(data):
    images = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(
        images,
        build_tokenizer(),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<|image_pad|>",
    )
    rows = {row.id: row for row in shown_rows(open_sources([str(data)]), model=ModelTokens.of(processor))}
    with ImageLoader(threads=1) as loader:
        prepared = PromptPreparer(processor, loader=loader)(rows["twice"].example)
    assert rows["twice"].tokens == (8, len(prepared.ids))
    assert [(image.model_size, image.tokens) for image in rows["screens"].images] == [(None, 4), (None, 4)]
    assert problems_of(rows["large"]) == []


def test_refused_rows_have_the_words_of_check(data, model_dir, tmp_path, previewed):
    rows = rows_of(data, model=model_dir, max_prompt_tokens=60)
    report = tmp_path / "check.json"
    options = ["--model", str(model_dir), "--max_prompt_tokens", "60", "--no_decode"]
    assert check([str(data), *options, "--json", str(report)]) == 1
    expected = [
        f"{entry['source']}{'' if entry['id'] is None else ' (id ' + entry['id'] + ')'}: "
        f"{entry['reason']}; {entry['remedy']}"
        for entry in json.loads(report.read_text())["refused_rows"]
    ]
    assert [str(row.refused) for row in rows.values() if row.refused] == expected
    kinds = {row.id: row.refused.kind for row in rows.values() if row.refused}
    assert kinds["missing"] == "missing"
    assert kinds["count"] == "markers"
    assert kinds["escape"] == "escape"
    assert kinds["large"] == "budget"


def test_a_row_that_the_chat_template_refuses_is_one_refused_row(data, model_dir):
    model = ModelTokens.of(load_processor(str(model_dir)))
    model.processor.chat_template = (
        "{% if 'and again' in messages | string %}{{ raise_exception('not again') }}{% endif %}"
        + model.processor.tokenizer.chat_template
    )
    rows = {row.id: row for row in shown_rows(open_sources([str(data)]), model=model)}
    assert str(rows["twice"].refused).startswith(
        f"{data}:3 (id twice): the chat template refuses the messages, not again; correct the roles"
    )
    assert rows["screens"].tokens


def test_a_refused_row_keeps_what_could_be_read(data, model_dir):
    rows = rows_of(data, model=model_dir, max_prompt_tokens=60)
    assert rows["missing"].example.prompt.pieces() == [["One ", 0, " two ", 1, " ."]]
    assert [image.size for image in rows["missing"].images] == [(56, 112), None]
    assert rows["missing"].images[1].error.kind == "missing"
    assert rows["missing"].tokens is None
    assert rows["large"].tokens[1] > 60, "over the limit, and counted"
    assert rows["shape"].values["text"] == "no known columns"
    broken = rows[f"{data}:6"]
    assert (broken.values, broken.example, broken.refused.kind) == (None, None, "json")


def test_problems_by_name(data, model_dir):
    found = {name: problems_of(row) for name, row in rows_of(data, model=model_dir, min_pixels=56 * 56).items()}
    small = "smaller than 28 pixels on a side"
    assert found["screens"] == []
    assert found["first"] == ["no marker, images put first"]
    assert found["twice"] == ["one image at several markers"]
    assert found["missing"] == ["refused: missing images"]
    assert found["large"] == ["image shrunk"]
    assert found["tiny"] == ["image enlarged", small]
    assert found["screens-again"] == ["row repeats an earlier one"]
    assert found["open"] == ["no reference answer"]
    capped = rows_of(data, model=model_dir, max_prompt_image_tokens=10)
    assert problems_of(capped["screens"]) == ["image shrunk", "images made smaller for the prompt's limit"]


def test_a_repeated_row_names_the_first(data):
    assert rows_of(data)["screens-again"].repeats == f"{data}:1"


def test_without_a_model_there_are_source_sizes_and_no_tokens(data):
    rows = rows_of(data)
    assert [image.size for image in rows["screens"].images] == [(56, 112), (112, 56)]
    assert all(row.tokens is None for row in rows.values())
    assert all(image.model_size is None and image.tokens is None for row in rows.values() for image in row.images)
    assert not {"image shrunk", "image enlarged"} & {name for row in rows.values() for name in problems_of(row)}


def test_several_files_and_a_limit(data, tmp_path):
    more = tmp_path / "more.jsonl"
    more.write_text(data.read_text().splitlines()[1] + "\n")
    sources = open_sources([str(more), str(data)], image_roots=[data.parent, None])
    rows = list(shown_rows(sources, limit=3))
    assert [row.source for row in rows] == [f"{more}:1", f"{data}:1", f"{data}:2"]
    assert rows[2].repeats == f"{more}:1"
