"""How the chat templates of the families take tools: which mode is found, and that docs/trajectories.md says so."""

import copy
import re
from pathlib import Path

import pytest
import trl
from PIL import Image
from triptych_data.prompt_settings import PromptSettings
from triptych_trainer.errors import UsageError
from triptych_trainer.trajectories.toolbox import tool_of
from triptych_trainer.trajectories.writer import turn_writer
from trl.chat_template_utils import add_response_schema

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
DOCS = Path(__file__).parents[3] / "docs" / "trajectories.md"
MODES = {
    "qwen2_5_vl": ("qwen2_5_vl", "<|im_end|>", "user"),
    "qwen3_vl": ("qwen3_vl", "<|im_end|>", "tool"),
    "qwen3_5_think": ("qwen3_5", "<|im_end|>", "tool"),
    "qwen3_6": ("qwen3_5", "<|im_end|>", "tool"),
    "qwen3_8": ("qwen3_5", "<|im_end|>", "tool"),
    "gemma3": ("gemma3", "<end_of_turn>", "user"),
    "gemma4": ("gemma4", "<turn|>", "user"),
    "gemma4_v2": ("gemma4", "<turn|>", "tool"),
    "gemma4_v5": ("gemma4", "<turn|>", "user"),
    "lfm2_2_5_vl": ("lfm2_vl", "<|im_end|>", "tool"),
    "smolvlm": ("smolvlm", "<end_of_utterance>", "user"),
    "idefics3": ("idefics3", "<end_of_utterance>", "user"),
}
"""By the name of the template: its family, the token that ends a message, and the mode."""


def look(image: int) -> list:
    """Look closer.

    Args:
        image: the number of an image.
    """


def writer_of(kits, template, ends_with=None):
    family, end, _ = MODES.get(template, ("llava_next", "</s>", None))
    processor = copy.deepcopy(kits.CASES[family].processor())
    tokenizer = processor.tokenizer
    if tokenizer.convert_tokens_to_ids(end) in (None, tokenizer.unk_token_id):
        tokenizer.add_special_tokens({"additional_special_tokens": [end]})
    processor.chat_template = tokenizer.chat_template = (TEMPLATES / f"{template}.jinja").read_text(encoding="utf-8")
    try:
        add_response_schema(processor)
    except ValueError:
        tokenizer.response_template = None
    return processor, turn_writer(
        processor,
        settings=PromptSettings(),
        schemas=[tool_of(look).schema],
        end_ids=[tokenizer.convert_tokens_to_ids(ends_with or end)],
        reads_calls=tokenizer.response_template is not None,
    )


@pytest.mark.slow_except("qwen3_vl", "smolvlm", "qwen2_5_vl", "gemma3")
@pytest.mark.parametrize("template", MODES)
def test_the_mode_is_found_and_a_turn_is_what_the_template_writes_in_a_whole_conversation(kits, template):
    _, end, mode = MODES[template]
    processor, writer = writer_of(kits, template)
    assert writer.mode == mode
    shown = Image.new("RGB", (40, 30))
    results = [("look", ["closer", shown])]
    suffix = writer.suffix(results, before=[results], where="rows:1")
    written = processor.tokenizer.decode(suffix.ids)
    assert "closer" in written
    assert written.count("qzj") == written.count("wqv") == 0, "nothing of the conversation before it"
    (span,) = suffix.spans
    image = processor.tokenizer.convert_tokens_to_ids(
        kits.CASES[MODES[template][0]].placeholder or processor.image_token
    )
    marked = [k for k, token in enumerate(suffix.ids) if token == image]
    assert marked == [k for start, length in span.runs for k in range(start, start + length)]
    assert not written.startswith(end), "the model's own end token is not written a second time"


def test_the_docs_hold_the_table(kits):
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| `(tool|user)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    assert rows == {template: mode for template, (_, _, mode) in MODES.items()}


def test_a_template_that_moves_images_is_refused_with_the_reason_for_each_mode(kits):
    with pytest.raises(UsageError, match=r"takes no tools that return images \(tool: .*; a list in the user"):
        writer_of(kits, "llava_next")


def test_a_token_that_ends_messages_but_not_sampling_is_named_with_its_place(kits):
    with pytest.raises(UsageError, match="generation_config") as refused:
        writer_of(kits, "gemma3", ends_with="<|im_end|>")
    said = str(refused.value)
    assert said.count("with a token that ends sampling (<|im_end|>)") == 2, "in both places of the list"
    assert said.endswith("; add the token with which it ends a message to eos_token_id in generation_config.json")
