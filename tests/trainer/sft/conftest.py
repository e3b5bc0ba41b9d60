"""Conversations with several images, and trainers on them."""

import json

import pytest
from PIL import Image
from triptych_data import ImageLoader, read_examples
from triptych_trainer.models.load import load_processor
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.sft.rows import ConversationPreparer


@pytest.fixture(scope="session")
def processor(model_dir):
    return load_processor(str(model_dir))


@pytest.fixture
def write(tmp_path):
    """Write rows of messages, each with so many images as it has markers."""

    def write(*conversations, **columns):
        for k in range(4):
            Image.new("RGB", (56 + 28 * (k % 3), 56), (60 * k, 90, 30)).save(tmp_path / f"{k}.png")
        rows = []
        for number, turns in enumerate(conversations):
            messages = [dict(zip(("role", "content"), turn, strict=True)) for turn in turns]
            count = sum(text.count("<image>") for role, text in turns if role != "assistant")
            images = [f"{(number + k) % 4}.png" for k in range(count)]
            rows.append({"id": f"row-{number}", "images": images, "messages": messages, **columns})
        path = tmp_path / "rows.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)) + "\n")
        return path

    return write


@pytest.fixture
def prepare(processor, write):
    """Prepare one conversation."""

    def prepare(*turns, columns=None, max_tokens=MAX_TOKENS, **options):
        (example,) = read_examples(write(turns, **(columns or {})))
        end_ids = options.pop("end_ids", {processor.tokenizer.eos_token_id})
        with ImageLoader(threads=1) as loader:
            prompts = PromptPreparer(processor, loader=loader, **options)
            return ConversationPreparer(prompts, end_ids=end_ids, max_tokens=max_tokens)(example)

    return prepare


MAX_TOKENS = 100
