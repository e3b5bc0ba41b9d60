"""The demo's tokenizer, with a chat template that names the tools and a response template that reads a call."""

from transformers import PreTrainedTokenizerFast

from triptych_trainer.demo.look.dialogue import careful
from triptych_trainer.demo.look.task import make_sample
from triptych_trainer.demo.tokenizer import CHAT_TEMPLATE, FORMAT_TOKENS, trained_tokenizer

__all__ = ["build_tokenizer"]

_CALL_TOKENS = ("<tool_call>", "</tool_call>")
_TOOLS = (
    "{%- if tools -%}{{ '<|im_start|>system\\ntools :' }}"
    "{%- for tool in tools -%}{{ ' ' + tool['function']['name'] }}{%- endfor -%}{{ '<|im_end|>\\n' }}{%- endif -%}"
)
_CALLS = (
    "{%- for call in message['tool_calls'] or [] -%}{{ '<tool_call> ' + call['function']['name'] }}"
    "{%- for key, value in call['function']['arguments'].items() -%}{{ ' ' + key + ' ' + value|string }}{%- endfor -%}"
    "{{ '</tool_call>' }}{%- endfor -%}"
)
RESPONSE_TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "reasoning_content": {"open": "<think>", "close_pattern": r"</think>\s*", "content": "text"},
        "tool_calls": {
            "open_pattern": r"<tool_call> (?P<name>\w+)",
            "close_pattern": r"</tool_call>\s*",
            "repeats": True,
            "content": "xml-inline",
            "content_args": {"tag_pattern": r" (?P<key>\w+) (?P<value>\w+)", "value_parser": {"name": "text"}},
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
        },
        "content": {"close_pattern": r"<\|im_end\|>\s*", "content": "text"},
    },
}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Train the tokenizer; every call gives the same vocabulary."""
    template = CHAT_TEMPLATE.replace("{%- for message in messages -%}", f"{_TOOLS}{{%- for message in messages -%}}", 1)
    template = template.replace(
        "{{ '<|im_end|>\\n' }}{%- endfor -%}{%- if add",
        f"{_CALLS}{{{{ '<|im_end|>\\n' }}}}{{%- endfor -%}}{{%- if add",
        1,
    )
    tokenizer = trained_tokenizer(_sentences(), chat_template=template, format_tokens=(*FORMAT_TOKENS, *_CALL_TOKENS))
    tokenizer.response_template = RESPONSE_TEMPLATE
    return tokenizer


def _sentences() -> list[str]:
    """The words of the prompts and of what the model says, often enough that each becomes one token."""
    texts = ["user\n", "assistant\n", "system\n", "tool\n", "tools : look"] * 20
    for index in range(600):
        sample = make_sample(index, seed=0, split="tokenizer")
        texts += [f" {sample.question}", *(f" {k} {lid}" for k, lid in enumerate(sample.lids, 1))]
        for said in careful(sample):
            texts += [part for part in said.text.replace(">", "<").split("<") if part.startswith(" ")]
    return texts
