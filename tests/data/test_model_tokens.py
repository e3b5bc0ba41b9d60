"""Tokens counted from headers are the tokens a run would see."""

from __future__ import annotations

import json
import re

import pytest
from PIL import Image
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.utils import logging
from triptych_data.check import main

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|image_pad|>", "<|vision_end|>")


@pytest.fixture
def model(tmp_path):
    """A folder with a tokenizer of bytes, Qwen's chat template and its image processor."""
    folder = tmp_path / "model"
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=TEMPLATE)
    fast.add_special_tokens({"additional_special_tokens": [AddedToken(token, special=True) for token in SPECIALS]})
    fast.save_pretrained(folder)
    Qwen2VLImageProcessorPil(size={"shortest_edge": 4 * 784, "longest_edge": 400 * 784}).save_pretrained(folder)
    Qwen2_5_VLConfig(image_token_id=fast.convert_tokens_to_ids("<|image_pad|>")).save_pretrained(folder)
    return folder, fast


@pytest.fixture
def rows(write_jsonl, draw, tmp_path):
    sizes = [(640, 480), (200, 900), (33, 40), (1200, 700)]
    for index, size in enumerate(sizes):
        draw(*size).save(tmp_path / f"{index}.png")
    found = []
    for count in range(4):
        images = [f"{(count + k) % 4}.png" for k in range(count)]
        found.append({"prompt": f"Question {count}: " + "look <image> and " * count + "answer", "images": images})
    return write_jsonl(found), tmp_path


def real_counts(path, folder, fast, model_folder, **limits) -> tuple[list[int], list[int]]:
    """(image tokens, all tokens) per row, from decoded images and the plain template."""
    processor = Qwen2VLImageProcessorPil.from_pretrained(model_folder, **limits)
    image_counts, all_counts = [], []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        pictures = [Image.open(folder / name) for name in row["images"]]
        grids = processor(images=pictures, return_tensors="pt")["image_grid_thw"] if pictures else []
        tokens = [int(grid.prod()) // 4 for grid in grids]
        pieces = row["prompt"].split("<image>")
        text = f"<|im_start|>user\n{pieces[0]}"
        for count, piece in zip(tokens, pieces[1:], strict=True):
            text += "<|vision_start|>" + "<|image_pad|>" * count + "<|vision_end|>" + piece
        text += "<|im_end|>\n<|im_start|>assistant\n"
        image_counts.append(sum(tokens))
        all_counts.append(len(fast(text)["input_ids"]))
    return image_counts, all_counts


def test_counts_from_headers_equal_the_decoded_and_tokenized_ones(rows, model, tmp_path, capsys):
    path, folder = rows
    model_folder, fast = model
    for number, limits in enumerate(({}, {"max_pixels": 60 * 784})):
        options = [word for name, value in limits.items() for word in (f"--{name}", str(value))]
        out = tmp_path / "report.json"
        assert main([str(path), "--model", str(model_folder), "--json", str(out), *options]) == 0
        size = {"size": {"shortest_edge": 4 * 784, "longest_edge": limits["max_pixels"]}} if limits else {}
        images, everything = real_counts(path, folder, fast, model_folder, **size)
        report = json.loads(out.read_text())
        images, everything = sorted(images), sorted(everything)
        wanted = {"p50": images[1], "p95": images[3], "p99": images[3], "max": images[3]}
        assert report["image_tokens_per_prompt"] == wanted
        wanted = {"p50": everything[1], "p95": everything[3], "p99": everything[3], "max": everything[3]}
        assert report["tokens_per_prompt"] == wanted, number
    assert "image tokens per prompt" in capsys.readouterr().out


@pytest.mark.slow
def test_a_folder_whose_processor_lacks_its_video_branch_is_counted_by_its_parts(rows, model, capsys):
    images = model[0] / "preprocessor_config.json"  # as `save_pretrained` of a whole processor writes it: inside
    config = {"processor_class": "Qwen2_5_VLProcessor", "image_processor": json.loads(images.read_text())}
    (model[0] / "processor_config.json").write_text(json.dumps(config))
    images.unlink()
    assert main([str(rows[0]), "--model", str(model[0])]) == 0
    assert "image tokens per prompt" in capsys.readouterr().out


@pytest.mark.slow
def test_rows_over_the_budget_are_refused_with_both_numbers(rows, model, capsys):
    path, _ = rows
    model_folder, _ = model
    assert main([str(path), "--model", str(model_folder), "--max_prompt_tokens", "400"]) == 1
    printed = capsys.readouterr().out
    assert "refused: prompts over the budget" in printed
    assert "expected at most 400 prompt tokens, got" in printed
    assert main([str(path), "--model", str(model_folder), "--max_prompt_image_tokens", "90"]) == 0
    assert main([str(path), "--model", str(model_folder), "--max_prompt_image_tokens", "10"]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"at most 10 image tokens in the prompt, got \d+ for 3 images at their smallest", printed)
    assert "4 rows, 2 pass, 2 would be refused" in printed


def test_an_argument_that_the_template_does_not_read_is_no_line_for_each_row(rows, model):
    (path, _), (folder, _) = rows, model
    level = logging.get_verbosity()
    logging.set_verbosity_warning()
    try:
        assert main([str(path), "--model", str(folder), "--chat_template_kwargs", '{"enable_thinking": false}']) == 0
        assert logging.get_verbosity() == logging.ERROR
    finally:
        logging.set_verbosity(level)


def test_a_folder_without_a_model_is_one_line(rows, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main([str(rows[0]), "--model", str(tmp_path / "empty")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"triptych-data check: error: --model {tmp_path / 'empty'}: no processor can be loaded")
    assert error.count("\n") == 1
