"""Every recipe starts on a stand-in: its own config and the row of its own README, on a two-layer model."""

import json
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image
from triptych_trainer.commands.train import main

RECIPES = Path(__file__).resolve().parents[3] / "examples" / "recipes"
NAMES = sorted(path.parent.name for path in RECIPES.glob("*/config.yaml"))
SMALL = {
    "max_steps": 2,
    "num_generations": 2,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "max_completion_length": 6,
    "bf16": False,
    "use_cpu": True,
    "save_steps": 100,
    "memory_forecast": False,
}


def stand_in(name, folder):
    """Write the row of a recipe's README twice, and draw the images that it names."""
    row = json.loads(re.search(r"```json\n(.*?)\n```", (RECIPES / name / "README.md").read_text(), re.DOTALL)[1])
    for k, image in enumerate(row["image"]):
        path = folder / "images" / image
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (84, 56), (40 * k, 90, 200)).save(path)
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps({**row, "id": f"{row['id']}-{k}"}) + "\n" for k in range(2)), encoding="utf-8")
    return row, data


def test_all_recipes_are_there():
    assert NAMES == ["document-pages", "gui-defects", "lora", "rec-iou"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_recipe_starts(name, model_dir, tmp_path, capsys):
    row, data = stand_in(name, tmp_path)
    assert len(row["image"]) >= 2
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load((RECIPES / name / "config.yaml").read_text()) | SMALL))
    out = tmp_path / "out"
    code = main(
        [
            *("--config", str(config), "--model_name_or_path", str(model_dir), "--output_dir", str(out)),
            *("--data", str(data), "--image_root", str(tmp_path / "images")),
        ]
    )
    assert code == 0, capsys.readouterr().err
    log = json.loads((out / "trainer_state.json").read_text())["log_history"]
    assert [entry["step"] for entry in log if "reward" in entry][:1] == [1]
    rewards = {key.split("/")[1] for key in log[0] if key.startswith("rewards/")}
    assert len(rewards) == len(yaml.safe_load((RECIPES / name / "config.yaml").read_text())["reward"])
    saved = "adapter_model.safetensors" if name == "lora" else "model.safetensors"
    assert (out / saved).is_file()
