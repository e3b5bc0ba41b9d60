"""A byte-level tokenizer without merges, with whatever special tokens a family names."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"


def build_tokenizer(*specials: str, named: dict[str, str] | None = None, **options: Any) -> PreTrainedTokenizerFast:
    """256 bytes, padding and turns, then `specials`; `named` are special tokens that the tokenizer knows by name."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokens = [PAD, TURN_START, TURN_END, *specials, *(named or {}).values()]
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in dict.fromkeys(tokens)])
    defaults = {"eos_token": TURN_END, "pad_token": PAD, "padding_side": "left", "model_max_length": 4096}
    return PreTrainedTokenizerFast(tokenizer_object=core, extra_special_tokens=named or {}, **{**defaults, **options})


def chat_template(image: str, *, begin: str = "") -> str:
    """ChatML with `image` written for an image part."""
    return (
        begin + "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}" + image + ""
        "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
