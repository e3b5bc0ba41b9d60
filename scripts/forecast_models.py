"""Print what `triptych plan` forecasts for the settings of examples/models, from configs that are written here.

uv run python scripts/forecast_models.py

The rows are eight prompts of four drawn images of 1024 x 768 pixels. Nothing is downloaded: the tokenizer is the
demo's, so a prompt has few tokens of text, and the sizes of the models were written from memory of their configs.
"""

import json
import tempfile
from pathlib import Path

from PIL import Image
from transformers import Qwen2_5_VLConfig, Qwen3VLConfig
from triptych_trainer.cli import main
from triptych_trainer.demo import build_processor, build_tokenizer

ROOT = Path(__file__).resolve().parents[1]


def qwen2_5_vl(hidden: int, layers: int, heads: int, kv: int, inner: int, vocabulary: int, *, tied: bool):
    text = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
        "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6},
    }
    vision = {"depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420, "out_hidden_size": hidden}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied, dtype="bfloat16")


def qwen3_vl(hidden: int, inner: int, tower: tuple[int, int, int], deepstack: list[int], *, tied: bool):
    text = {
        "hidden_size": hidden,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": inner,
        "vocab_size": 151936,
        "tie_word_embeddings": tied,
    }
    depth, width, tower_inner = tower
    vision = {"depth": depth, "hidden_size": width, "num_heads": 16, "intermediate_size": tower_inner, "patch_size": 16}
    vision |= {"out_hidden_size": hidden, "deepstack_visual_indexes": deepstack}
    return Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied, dtype="bfloat16")


CONFIGS = {
    "qwen2.5-vl-3b": qwen2_5_vl(2048, 36, 16, 2, 11008, 151936, tied=True),
    "qwen2.5-vl-7b": qwen2_5_vl(3584, 28, 28, 4, 18944, 152064, tied=False),
    "qwen3-vl-4b": qwen3_vl(2560, 9728, (24, 1024, 4096), [5, 11, 17], tied=True),
    "qwen3-vl-8b": qwen3_vl(4096, 12288, (27, 1152, 4304), [8, 16, 24], tied=False),
}


def write_rows(folder: Path) -> Path:
    rows = []
    for k in range(8):
        names = [f"{4 * k + j}.png" for j in range(4)]
        for j, name in enumerate(names):
            Image.new("RGB", (1024, 768), (4 * k + j, 90, 200)).save(folder / name)
        rows.append({"id": str(k), "prompt": "<image>" * 4 + " What is where ?", "images": names, "answer": "red"})
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def forecast(name: str, kind: str, folder: Path, rows: Path) -> None:
    words = ["--config", str(ROOT / "examples" / "models" / name / f"{kind}.yaml")]
    words += ["--model_name_or_path", str(folder), "--data", str(rows), "--image_root", str(rows.parent)]
    main(["plan", *words, "--device", "cuda", "--memory_gib", "80", "--no_alternatives"])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        data = write_rows(Path(work))
        for model, model_config in CONFIGS.items():
            place = Path(work) / model
            processor = build_processor(build_tokenizer())
            processor.image_processor.patch_size = model_config.vision_config.patch_size
            processor.save_pretrained(place)
            model_config.save_pretrained(place)
            for setting in ("one-gpu", "eight-gpus"):
                print(f"\n== {model}, {setting}", flush=True)
                forecast(model, setting, place, data)
