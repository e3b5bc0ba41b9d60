"""One description of a prompt: sizes, tokens and refusals as a run has them, for every kind of image and option."""

from __future__ import annotations

import re
from dataclasses import replace

import jinja2
import pytest
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from triptych_data import DataError, read_examples
from triptych_data.describe import count_images, describe, template_kwargs, unexpanded_ids
from triptych_data.model_tokens import ModelTokens
from triptych_data.prompt_settings import PromptSettings


class Words:
    """A tokenizer of words whose template writes what it is told to."""

    image_token, chat_template = "<pad>", "written by apply_chat_template"
    all_special_tokens = ("<pad>",)

    def __init__(self) -> None:
        self.words = ["<pad>"]

    def __len__(self) -> int:
        return 10_000

    def convert_tokens_to_ids(self, token: str) -> int:
        if token not in self.words:
            self.words.append(token)
        return self.words.index(token)

    def apply_chat_template(self, messages, *, ending="", **options):
        parts = [part for message in messages for part in message["content"]]
        texts = [f" {part.get('text', '<pad>').strip()} " for part in parts]
        if ending == "moved":
            texts = sorted(texts, key=lambda text: text != " <pad> ")
        return "".join(texts) + ending

    def __call__(self, text, **options):
        return {"input_ids": [self.convert_tokens_to_ids(word) for word in re.findall(r"<[^>]*>|[^\s<]+", text)]}


class Qwen2VLProcessor:
    """Known to the parser by its name, as the stock one is."""

    def __init__(self) -> None:
        self.tokenizer = Words()
        self.image_token = self.tokenizer.image_token
        self.image_processor = Qwen2VLImageProcessorPil(size={"shortest_edge": 784, "longest_edge": 64 * 784})


@pytest.fixture
def model():
    return ModelTokens.of(Qwen2VLProcessor())


@pytest.fixture
def example(write_jsonl, draw, tmp_path):
    draw(280, 140).save(tmp_path / "a.png")
    draw(56, 56).save(tmp_path / "b.png")
    row = {"id": "x", "prompt": "see <image:1> and <image:2> and again <image:1>", "images": ["a.png", "b.png"]}
    return read_examples(write_jsonl([row]))[0]


def test_an_image_takes_its_tokens_at_each_of_its_markers(model, example):
    found = describe(example, model=model, settings=PromptSettings())
    assert found.images.sizes == ((140, 280), (56, 56))
    assert found.images.tokens == (50, 4)
    assert found.num_image_tokens == found.ids.count(0) == 104
    assert [(span.image, span.num_features) for span in found.spans] == [(0, 50), (1, 4), (0, 50)]


def test_the_cap_of_a_prompt_counts_every_marker(model, example):
    found = describe(example, model=model, settings=PromptSettings(max_prompt_image_tokens=60))
    assert found.images.capped
    assert found.num_image_tokens == found.ids.count(0) <= 60
    assert found.images.tokens[1] == 4, "the small image stays as it is"
    assert found.images.resized == found.images.model_sizes


def test_counting_the_images_alone_gives_the_same(model, example):
    for settings in (PromptSettings(), PromptSettings(max_prompt_image_tokens=60)):
        alone = count_images(example, model=model, settings=settings)
        assert alone == describe(example, model=model, settings=settings).images


def test_a_rows_own_limit_below_the_processors_lowest_counts_in_the_size_that_the_model_sees(model, example):
    high = model.with_pixels(min_pixels=16 * 784)
    small = replace(example, images=(replace(example.images[0], max_pixels=2 * 784), example.images[1]))
    found = describe(small, model=high, settings=PromptSettings())
    assert found.images.model_sizes[0] == (28, 56)
    assert found.images.tokens == (2, 16)


def test_too_many_tokens_are_counted_and_refused_in_one_sentence(model, example):
    found = describe(example, model=model, settings=PromptSettings(max_prompt_tokens=100))
    assert str(found.refused) == (
        f"{example.source} (id x): expected at most 100 prompt tokens, got {found.num_tokens}, 104 of them for "
        "2 images; raise --max_prompt_tokens, lower --max_pixels or --max_prompt_image_tokens, or drop the row "
        "(`triptych check --fix`)"
    )
    with pytest.raises(DataError):
        found.accepted()
    exactly = PromptSettings(max_prompt_tokens=found.num_tokens)
    assert describe(example, model=model, settings=exactly).accepted().refused is None
    one_less = PromptSettings(max_prompt_tokens=found.num_tokens - 1)
    assert describe(example, model=model, settings=one_less).refused is not None


def test_no_size_is_said_to_be_seen_where_a_prompt_has_other_tokens_than_planned(model, example, monkeypatch):
    counted = count_images(example, model=model, settings=PromptSettings())
    assert counted.model_sizes == counted.sizes
    wrong = replace(counted, tokens=(49, 4))
    monkeypatch.setattr("triptych_data.describe.count_images", lambda *_, **__: wrong)
    found = describe(example, model=model, settings=PromptSettings()).images
    assert (found.tokens, found.model_sizes) == ((50, 4), (None, (56, 56)))


def test_the_tools_of_a_row_are_those_that_its_template_gets(example):
    own = replace(example, tools=({"name": "zoom"},))
    settings = PromptSettings(chat_template_kwargs={"tools": [{"name": "other"}], "enable_thinking": False})
    assert template_kwargs(own, settings) == {"tools": [{"name": "zoom"}], "enable_thinking": False}
    assert template_kwargs(example, settings)["tools"] == [{"name": "other"}]


KEYS = {
    "a name that is written": ("user", {"name": "kim"}, " {{ m.name }}"),
    "a name that is left out": ("user", {"name": "kim"}, ""),
    "a system's name that is left out": (
        "system",
        {"name": "rules"},
        "{% if m.role == 'user' %}{{ m.name }}{% endif %}",
    ),
    "thoughts that are written": ("assistant", {"reasoning_content": "so"}, "{{ m.reasoning_content }}"),
    "thoughts that are left out": ("assistant", {"reasoning_content": "so"}, "{{ m.name }}"),
    "a name that is the role": ("user", {"name": "Human"}, ""),
    "the call of a tool": ("tool", {"tool_call_id": "1", "name": "zoom"}, ""),
}


class Templated(Words):
    """The same tokenizer, with a template of Jinja."""

    def __init__(self, written: str) -> None:
        super().__init__()
        self.chat_template = (
            "{% for m in messages %}" + written + "{% for p in m.content %} {{ p.text }} {% endfor %}{% endfor %}"
        )

    def apply_chat_template(self, messages, **options):
        return jinja2.Template(self.chat_template).render(messages=messages)


@pytest.mark.parametrize("name", KEYS)
def test_what_a_message_says_next_to_its_content_is_written_or_refused(name, write_jsonl):
    role, keys, written = KEYS[name]
    turns = [{"role": one, "content": f"the {one} says it"} for one in ("system", "user", "assistant", "tool", "user")]
    number = [turn["role"] for turn in turns].index(role)
    turns[number] |= keys
    processor = Qwen2VLProcessor()
    processor.tokenizer = Templated(written)
    model = ModelTokens.of(processor)

    def count(turns):
        (example,) = read_examples(write_jsonl([{"id": "k", "messages": turns, "answer": "x"}]))
        return describe(example, model=model, settings=PromptSettings())

    if "left out" not in name:
        assert count(turns).num_tokens
        return
    (key,) = keys
    said = rf"\(id k\): expected the chat template to write {key} of message {number + 1}, got one that writes no {key}"
    with pytest.raises(DataError, match=f"{said} of the {role}; write it into the content.* or remove it"):
        count(turns)
    turns[number] = {"role": role, "content": f"{keys[key]}: the {role} says it"}
    assert count(turns).num_tokens, "the remedy"


@pytest.mark.parametrize("settings", [PromptSettings(), PromptSettings(max_prompt_image_tokens=60)], ids=("", "cap"))
def test_a_thin_image_is_refused_with_its_name_with_and_without_limits(model, write_jsonl, draw, tmp_path, settings):
    draw(2275, 10).save(tmp_path / "thin.png")
    found = read_examples(write_jsonl([{"prompt": "<image> ?", "images": ["thin.png"]}]))[0]
    for count in (count_images, describe):
        with pytest.raises(DataError, match=r"train\.jsonl:1: thin\.png: .* aspect ratio of at most 200, got 2275x10"):
            count(found, model=model, settings=settings)


def test_the_chat_template_gets_its_arguments_and_may_be_told_what_to_do_with_images(model, example):
    written = describe(example, model=model, settings=PromptSettings(chat_template_kwargs={"ending": "END"}))
    assert written.ids[-1] == model.processor.tokenizer.convert_tokens_to_ids("END")
    moved = {"chat_template_kwargs": {"ending": "moved"}}
    with pytest.raises(DataError, match=r"\(id x\): the chat template moves images away"):
        describe(example, model=model, settings=PromptSettings(**moved))
    accepted = describe(example, model=model, settings=PromptSettings(chat_template_images="template", **moved))
    assert accepted.spans[0].start == 0
    inline = describe(example, model=model, settings=PromptSettings(chat_template_images="inline", **moved))
    assert inline.spans[0].start > 0


@pytest.mark.parametrize("choice", ["exact", "inline", "template"])
def test_the_unexpanded_prompt_is_the_same_with_one_placeholder_per_image(model, example, choice):
    kwargs = {} if choice == "exact" else {"ending": "moved"}
    settings = PromptSettings(chat_template_images=choice, chat_template_kwargs=kwargs)
    found = describe(example, model=model, settings=settings)
    repeats = {start + k for span in found.spans for start, length in span.runs for k in range(1, length)}
    short = unexpanded_ids(example, model=model, settings=settings)
    assert short == [token for k, token in enumerate(found.ids) if k not in repeats]
    assert short.count(0) == 3


def test_pixel_limits_leave_the_model_they_were_set_from_alone(model):
    low = model.with_pixels(max_pixels=4 * 784)
    assert (model.vision.max_pixels, low.vision.max_pixels) == (64 * 784, 4 * 784)
    assert model.with_pixels() is model
