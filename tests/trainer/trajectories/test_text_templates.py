"""Tools for language models without images, whose chat templates may take only texts as the content of a message."""

from pathlib import Path

import pytest
import trl
from triptych_data.prompt_settings import PromptSettings
from triptych_trainer.demo import build_tokenizer
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.trl.conversations import writers_of
from triptych_trainer.trajectories.messages import results_for_user
from triptych_trainer.trajectories.toolbox import toolbox

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
MODES = {
    "qwen2_5": ("<|im_end|>", "tool", True),
    "qwen3": ("<|im_end|>", "tool", True),
    "lfm2_2_5": ("<|im_end|>", "tool", False),
    "nemotron_3_nano": ("<|im_end|>", "tool", True),
    "gptoss": ("<|end|>", "tool", True),
    "phi3": ("<|end|>", "user", True),
    "llama3_1": ("<|eot_id|>", "user", False),
    "gemma": ("<end_of_turn>", "user", False),
}
"""By the name of the template: the token that ends a message, the mode, and whether content is given as a text."""


def look(where: str) -> str:
    """Look closer.

    Args:
        where: the place.
    """


def writer_of(template, *, end="<|im_end|>"):
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [end]})
    tokenizer.chat_template = template
    end_ids = [tokenizer.convert_tokens_to_ids(end)]
    writers, _ = writers_of(tokenizer, PromptSettings(), {None: toolbox([look])}, end_ids=end_ids)
    return tokenizer, writers[None]


@pytest.mark.parametrize("name", MODES)
def test_a_turn_is_what_the_template_writes_in_a_whole_conversation(name):
    end, mode, as_texts = MODES[name]
    tokenizer, writer = writer_of((TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8"), end=end)
    assert (writer.mode, writer.as_texts) == (mode, as_texts)
    results = [("look", ["the red one"])]
    suffix = writer.suffix(results, before=[results, results], where="here")
    assert suffix.spans == ()
    call = {"type": "function", "function": {"name": "look", "arguments": {}}}
    said = {"role": "assistant", "content": "which", **({"tool_calls": [call]} if mode == "tool" else {})}
    came = {"role": "tool", "name": "look", "content": "the red one"}
    if mode == "user":
        (text,) = results_for_user(results)
        came = {"role": "user", "content": text}
    whole = tokenizer.apply_chat_template(
        [{"role": "user", "content": "which"}, said, came],
        tokenize=False,
        **{"add_generation_prompt": True, **writer.settings.chat_template_kwargs},
    )
    own = tokenizer(whole[whole.rindex(end, 0, whole.index("the red one")) + len(end) :])["input_ids"]
    assert list(suffix.ids) == own


def test_a_template_that_drops_what_tools_return_gets_it_in_a_message_of_the_user():
    """A list of parts is written in messages of the user, and left out in those of tools."""
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}"
        "{% elif m.role != 'tool' %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer, writer = writer_of(template)
    assert writer.mode == "user"
    assert "the red one" in tokenizer.decode(writer.suffix([("look", ["the red one"])], where="here").ids)


def test_a_template_without_an_end_of_messages_is_refused_for_each_way():
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    with pytest.raises(
        UsageError, match=r"takes no tools \(tool: the tokenizer has no response template .*; a list in"
    ):
        writer_of(template)
