"""Stock processors of seven families with a video branch, small ones, as `AutoProcessor` builds them with torchvision.

Run as a script, this file is the machine without torchvision: it loads the folders that the command line names, says
what each processor makes of one prompt, and saves it into a folder beside.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
GLM = ("<|begin_of_image|>", "<|end_of_image|>", "<|image|>", "<|video|>", "<|begin_of_video|>", "<|end_of_video|>")
SMOL = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", "<video>")
INTERN = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
GEMMA = {"image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>", "audio_token": "<|audio|>"}
GRID = {"size": {"shortest_edge": 28**2 * 4, "longest_edge": 28**2 * 64}}
SQUARE = {"size": {"height": 28, "width": 28}}
TILES = {"size": {"longest_edge": 112}, "max_image_size": {"longest_edge": 28}}
PINPOINTS = {"image_grid_pinpoints": [[28 * rows, 28 * columns] for rows in (1, 2) for columns in (1, 2)]}

# processor class, model type, image and video processors with their settings, tokenizer, template, settings, and the
# first transformers that imports the class without torchvision
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2_5_vl": {
        "cls": "Qwen2_5_VLProcessor",
        "parts": {"image": ("Qwen2VLImageProcessor", GRID), "video": ("Qwen2VLVideoProcessor", {})},
        "specials": QWEN,
        "image": "<|vision_start|><|image_pad|><|vision_end|>",
    },
    "qwen3_vl": {
        "cls": "Qwen3VLProcessor",
        "parts": {
            "image": ("Qwen2VLImageProcessor", {**GRID, "patch_size": 16}),
            "video": ("Qwen3VLVideoProcessor", {"fps": 3}),
        },
        "specials": QWEN,
        "image": "<|vision_start|><|image_pad|><|vision_end|>",
    },
    "glm4v": {
        "cls": "Glm4vProcessor",
        "parts": {"image": ("Glm4vImageProcessor", GRID), "video": ("Glm4vVideoProcessor", {})},
        "specials": GLM,
        "image": "<|begin_of_image|><|image|><|end_of_image|>",
    },
    "internvl": {
        "cls": "InternVLProcessor",
        "parts": {
            "image": ("GotOcr2ImageProcessor", {**SQUARE, "min_patches": 1, "max_patches": 6}),
            "video": ("InternVLVideoProcessor", SQUARE),
        },
        "names": {**INTERN, "video_token": "<video>"},
        "image": "<IMG_CONTEXT>\n",
        "settings": {"image_seq_length": 4},
    },
    "llava_onevision": {
        "cls": "LlavaOnevisionProcessor",
        "parts": {
            "image": ("LlavaOnevisionImageProcessor", {**SQUARE, **PINPOINTS}),
            "video": ("LlavaOnevisionVideoProcessor", SQUARE),
        },
        "specials": ("<image>", "<video>"),
        "image": "<image>\n",
        "settings": {"num_image_tokens": 4, "vision_feature_select_strategy": "full"},
    },
    "smolvlm": {
        "cls": "SmolVLMProcessor",
        "apart_since": (5, 18),
        "parts": {"image": ("SmolVLMImageProcessor", TILES), "video": ("SmolVLMVideoProcessor", {"num_frames": 7})},
        "specials": (*SMOL, *(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5))),
        "image": "<image>",
        "settings": {"image_seq_len": 3},
    },
    "gemma4": {
        "cls": "Gemma4Processor",
        "parts": {
            "image": ("Gemma4ImageProcessor", {"max_soft_tokens": 70}),
            "video": ("Gemma4VideoProcessor", {"num_frames": 5}),
            "feature_extractor": ("Gemma4AudioFeatureExtractor", {}),
        },
        "apart_since": (5, 21),
        "specials": ("<|video|>",),
        "names": {**GEMMA, "boa_token": "<|audio>", "eoa_token": "<audio|>"},
        "image": "<|image|>",
        "settings": {"image_seq_length": 70},
    },
}


def works_apart(name: str) -> bool:
    """Whether the installed transformers imports this family's class without torchvision."""
    import transformers

    installed = tuple(map(int, transformers.__version__.split(".")[:2]))
    return installed >= FAMILIES[name].get("apart_since", (0, 0))


def build(name: str) -> Any:
    """The stock processor of a family; needs torchvision."""
    import transformers

    family = FAMILIES[name]
    parts = {part: getattr(transformers, cls)(**given) for part, (cls, given) in family["parts"].items()}
    parts = {part if part == "feature_extractor" else f"{part}_processor": built for part, built in parts.items()}
    made = tokenizer(family)
    stock = getattr(transformers, family["cls"])
    return stock(tokenizer=made, chat_template=made.chat_template, **parts, **family.get("settings", {}))


def tokenizer(family: dict[str, Any]) -> Any:
    """A byte-level tokenizer with a family's special tokens and a chat template in its manner."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made,
        chat_template=CHAT.replace("IMAGE", family["image"]),
        extra_special_tokens=family.get("names", {}),
        pad_token="<|im_end|>",
    )
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", *family.get("specials", ())]})
    return fast


def split_folder(folder: Path) -> None:
    """Turn a folder as transformers 5 saves it into one as older hub folders are: a file for each part."""
    config = json.loads((folder / "processor_config.json").read_text())
    for part, file in (("image", "preprocessor_config.json"), ("video", "video_preprocessor_config.json")):
        content = {**config.pop(f"{part}_processor"), "processor_class": config["processor_class"]}
        (folder / file).write_text(json.dumps(content))
    (folder / "processor_config.json").write_text(json.dumps(config))


def prompt_of(processor: Any) -> dict[str, Any]:
    """What a processor makes of two images of different sizes and a text: ids, and the shapes of the other tensors."""
    from PIL import Image

    images = [Image.new("RGB", size, (90, 20, 160)) for size in ((60, 90), (140, 70))]
    parts = [{"type": "image"}, {"type": "text", "text": " then "}, {"type": "image"}, {"type": "text", "text": "?"}]
    messages = [{"role": "user", "content": parts}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    made = processor(images=images, text=text, return_tensors="pt")
    shapes = {name: list(values.shape) for name, values in made.items()}
    return {"ids": made["input_ids"][0].tolist(), "shapes": dict(sorted(shapes.items()))}


def main(folders: list[str]) -> None:
    sys.modules["torchvision"] = None  # type: ignore[assignment]
    from transformers.utils import is_torchvision_available
    from triptych_data.processors import load_processor

    assert not is_torchvision_available()
    for folder in map(Path, folders):
        processor = load_processor(str(folder))
        said = {"cls": type(processor).__name__, "video": dict(processor.video_configuration), **prompt_of(processor)}
        processor.save_pretrained(folder / "again")
        (folder / "said.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1:])
