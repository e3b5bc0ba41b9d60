"""Print what `triptych plan` forecasts for the files of examples/models, from configs that are written here.

uv run python scripts/forecast_models.py [MODEL ...]

The rows are eight prompts of four drawn images of 1024 x 768 pixels. Nothing is downloaded: tokenizers are tiny, so a
prompt has few tokens of text; the sizes of the models were written from memory of their configs, from the defaults of
their classes in transformers, and for Gemma 4 from a test of NVIDIA's Megatron Bridge.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers as hf
from PIL import Image
from transformers import Qwen2_5_VLConfig, Qwen3VLConfig
from triptych_trainer.cli import main
from triptych_trainer.demo import build_processor, build_tokenizer

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "trainer" / "families"))
from kits import gemma, glm, tiles  # noqa: E402  (stock processors over tokenizers that are built in code)

SETTINGS = ("one-gpu", "eight-gpus", "vllm")


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


def internvl3_5() -> Any:
    """Qwen3-8B behind InternViT-300M."""
    text = {"model_type": "qwen3", "hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32}
    text |= {"num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 12288, "vocab_size": 151936}
    return hf.InternVLConfig(text_config={**text, "tie_word_embeddings": False}, tie_word_embeddings=False)


def glm4v_9b() -> Any:
    rope = {"rope_type": "default", "mrope_section": [8, 12, 12], "partial_rotary_factor": 0.5, "rope_theta": 1e4}
    return hf.Glm4vConfig(text_config={"rope_parameters": rope})


def gemma4_e4b() -> Any:
    text = {"hidden_size": 2560, "num_hidden_layers": 42, "num_attention_heads": 8, "num_key_value_heads": 2}
    text |= {"head_dim": 256, "intermediate_size": 10240, "num_kv_shared_layers": 18, "attention_k_eq_v": False}
    return hf.Gemma4Config(text_config=text, vision_config={}, audio_config=None)


def of_qwen(config: Any) -> Any:
    made = build_processor(build_tokenizer())
    made.image_processor.patch_size = config.vision_config.patch_size
    return made


def of_glm(config: Any) -> Any:
    made = glm.processor(hf.Glm4vProcessor, hf.Glm4vImageProcessor)
    made.image_processor = hf.Glm4vImageProcessor()
    return made


def of_internvl(config: Any) -> Any:
    made = tiles.internvl_processor()
    made.image_processor = hf.GotOcr2ImageProcessor(size={"height": 448, "width": 448}, min_patches=1, max_patches=12)
    made.image_processor.crop_to_patches, made.image_seq_length = True, 256
    return made


def of_gemma(config: Any) -> Any:
    made = gemma.gemma4_processor()
    made.image_processor, made.image_seq_length = hf.Gemma4ImageProcessor(), 280
    return made


MODELS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "qwen2.5-vl-3b": (lambda: qwen2_5_vl(2048, 36, 16, 2, 11008, 151936, tied=True), of_qwen),
    "qwen2.5-vl-7b": (lambda: qwen2_5_vl(3584, 28, 28, 4, 18944, 152064, tied=False), of_qwen),
    "qwen3-vl-4b": (lambda: qwen3_vl(2560, 9728, (24, 1024, 4096), [5, 11, 17], tied=True), of_qwen),
    "qwen3-vl-8b": (lambda: qwen3_vl(4096, 12288, (27, 1152, 4304), [8, 16, 24], tied=False), of_qwen),
    "qwen3.5-9b": (lambda: hf.Qwen3_5Config(vision_config={"out_hidden_size": 4096}), of_qwen),
    "internvl3.5-8b": (internvl3_5, of_internvl),
    "gemma-4-e4b": (gemma4_e4b, of_gemma),
    "glm-4.6v-flash": (glm4v_9b, of_glm),
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
        for model in sys.argv[1:] or MODELS:
            config_of, processor_of = MODELS[model]
            place, model_config = Path(work) / model, config_of()
            model_config.dtype = "bfloat16"
            processor_of(model_config).save_pretrained(place)
            model_config.save_pretrained(place)
            for setting in SETTINGS:
                print(f"\n== {model}, {setting}", flush=True)
                forecast(model, setting, place, data)
