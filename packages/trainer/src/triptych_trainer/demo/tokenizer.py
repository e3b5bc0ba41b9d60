"""A byte-level BPE of about 400 tokens with Qwen's special tokens, trained in code on the demo's own sentences."""

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from .task import make_sample

VOCABULARY_SIZE = 400
END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
IMAGE_PAD, VIDEO_PAD = "<|image_pad|>", "<|video_pad|>"
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END, VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD)
# Added but not special: decoding with skip_special_tokens=True has to keep what the format reward looks for.
FORMAT_TOKENS = ("<think>", "</think>", "<answer>", "</answer>")

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{%- if message['content'] is string -%}{{ message['content'] }}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- elif part['type'] == 'text' -%}{{ part['text'] }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{{ '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Train the tokenizer; every call gives the same vocabulary, so that ids of saved models stay valid."""
    return trained_tokenizer(_sentences(), chat_template=CHAT_TEMPLATE, format_tokens=FORMAT_TOKENS)


def trained_tokenizer(
    sentences: Sequence[str], *, chat_template: str, format_tokens: Sequence[str]
) -> PreTrainedTokenizerFast:
    """Train a tokenizer with Qwen's special tokens on the words of a demo."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(SPECIAL_TOKENS) - len(format_tokens),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(sentences, trainer)
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    core.add_tokens([AddedToken(token, special=False, normalized=False) for token in format_tokens])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        padding_side="left",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
        extra_special_tokens={"image_token": IMAGE_PAD, "video_token": VIDEO_PAD},
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def _sentences() -> list[str]:
    """The words of the prompts and completions, often enough that each becomes one token."""
    texts = ["user\n", "assistant\n", "system\n"] * 20
    for index in range(600):
        sample = make_sample(index, seed=0, split="tokenizer")
        texts += [sample.question.replace("<image>", ""), *sample.colours]
        texts += [f" {word}" for fact in sample.facts for word in fact]
    return texts
