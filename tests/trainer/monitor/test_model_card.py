"""The README of a trained model, from what a run knows and what its folder says."""

import json

import yaml
from triptych_trainer.monitor.model_card import CardFacts, model_card

HOSTILE = "a](evil)|<script>`"


def facts(**more):
    known = {
        "name": "out",
        "base": "Org/Model-3B",
        "has_adapters": False,
        "step": 7,
        "options": {"learning_rate": 1e-5},
    }
    return CardFacts(**{**known, "rewards": {"accuracy": 2.0, HOSTILE: 1.0}, **more})


def test_says_data_placement_rewards_and_evaluation(tmp_path):
    data = [{"path": f"/secret/place/{name}.jsonl", "bytes": 5, "sha256": "ab"} for name in ("rows", "held")]
    (tmp_path / "run.json").write_text(json.dumps({"data": data, "versions": {"trl": "1.16.0"}}))
    config = {"eval_data": ["held.jsonl"], "chat_template_images": "template", "max_prompt_image_tokens": 900}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    log = [{"rewards/accuracy/mean": 0.25}, {"eval_reward": 0.5, "eval_rewards/accuracy/mean": 0.75, "eval_runtime": 3}]
    card = model_card(tmp_path, facts(log=log, tags="x"))
    head = yaml.safe_load(card.split("---")[1])
    assert (head["base_model"], head["library_name"], head["pipeline_tag"]) == (
        "Org/Model-3B",
        "transformers",
        "image-text-to-text",
    )
    assert {"x", "grpo", "multi-image"} <= set(head["tags"])
    assert "| `rows.jsonl` | `training` |" in card
    assert "| `held.jsonl` | `held out` |" in card
    assert "secret" not in card
    assert "The chat template decides where the images of a prompt are." in card
    assert "| `max_prompt_image_tokens` | `900` |" in card
    assert "| `accuracy` | 2 | 0.25 |" in card
    assert "| `eval_rewards/accuracy/mean` | 0.75 |" in card
    assert "eval_runtime" not in card
    assert "<script>" not in card
    assert "](evil)" not in card
    assert "report.html" not in card, "there is no page"


def test_a_script_without_a_record_has_a_card_too(tmp_path):
    card = model_card(tmp_path, facts(base=None, has_adapters=True))
    assert "base_model" not in yaml.safe_load(card.split("---")[1])
    assert "Adapters of a vision-language model" in card
    assert "The script that trained this model read its data itself" in card
    assert "No held-out rows were evaluated during the run." in card


def test_a_demo_says_what_it_measured_itself(tmp_path):
    card = model_card(tmp_path, facts(measured={"accuracy, sampled": (0.5, 0.97)}))
    assert "| `accuracy, sampled` | 0.5 | 0.97 |" in card
    assert "No held-out rows" not in card
