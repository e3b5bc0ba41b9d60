"""The README of a trained model's folder: what it was trained on, by which rewards, and what it scored."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from triptych_parser.printable import printable

from triptych_trainer.monitor.run_record import read_run_record

__all__ = ["CardFacts", "model_card"]

PLACEMENT = ("chat_template_images", "placement", "min_pixels", "max_pixels", "max_prompt_image_tokens")
"""Options that decide where images are and how large; with them other prompts are read as these were."""
TRAINING = (
    *(
        "learning_rate",
        "num_generations",
        "temperature",
        "max_completion_length",
        "loss_type",
        "beta",
        "num_iterations",
    ),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "seed"),
)
SFT = (
    *("learning_rate", "loss_type", "num_train_epochs", "packing", "max_length"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "seed"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CardFacts:
    """Contains the facts about a saved model that the trainer has."""

    name: str
    base: str | None
    """Hub id of the model that was trained; None for one from a folder."""
    has_adapters: bool
    step: int
    options: Mapping[str, Any]
    """TRL's options of the run, of which those that matter are shown."""
    rewards: Mapping[str, float]
    """The weight of each reward by its name; empty for supervised fine-tuning."""
    log: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    tags: Sequence[str] = ()
    measured: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """What a demo measured on its held-out questions before and after training, by name."""


def model_card(folder: Path, facts: CardFacts) -> str:
    """Write the card from what is known and from ``run.json`` and ``config.yaml`` of the folder; no path is in it."""
    record, config = read_run_record(folder), _config(folder)
    parts = [
        f"# {_plain(facts.name)}",
        _introduction(facts),
        _usage(facts),
        "## Data\n\n" + _data(record, config),
        "## Images in prompts\n\n" + _placement(config),
        *(["## Rewards\n\n" + _rewards(facts)] if facts.rewards else []),
        "## Training\n\n"
        + _table(
            ("option", "value"), [(name, facts.options.get(name)) for name in (TRAINING if facts.rewards else SFT)]
        ),
        "## Evaluation\n\n" + _evaluation(facts),
        "## Versions\n\n" + _table(("package", "version"), list((record.get("versions") or {}).items())),
    ]
    if (folder / "report.html").is_file():
        parts.insert(
            -1, "What the model said to each prompt of the run, with its images in place: [report.html](report.html)."
        )
    return _head(facts) + "\n\n".join(parts) + "\n"


def _head(facts: CardFacts) -> str:
    method = "grpo" if facts.rewards else "sft"
    tags = [*dict.fromkeys([*facts.tags, "triptych", method, "trl", "multi-image"])]
    head = {"library_name": "peft" if facts.has_adapters else "transformers", "pipeline_tag": "image-text-to-text"}
    base = {} if facts.base is None else {"base_model": facts.base}
    return f"---\n{yaml.safe_dump({**base, **head, 'tags': tags}, sort_keys=False)}---\n\n"


def _introduction(facts: CardFacts) -> str:
    what = "Adapters of" if facts.has_adapters else "A version of"
    base = (
        "a vision-language model"
        if facts.base is None
        else f"[{_plain(facts.base)}](https://huggingface.co/{facts.base})"
    )
    method = "GRPO ([Shao et al. 2024](https://arxiv.org/abs/2402.03300))"
    data = "prompts"
    if not facts.rewards:
        method, data = "supervised fine-tuning on the turns of the assistant", "conversations"
    return (
        f"{what} {base}, trained for {facts.step} steps by {method} with Triptych, on {data} that may contain several "
        "images."
    )


def _usage(facts: CardFacts) -> str:
    return (
        "```python\nfrom transformers import AutoModelForImageTextToText, AutoProcessor\n\n"
        f'name = "{_plain(facts.name)}"  # this folder, or its name on the hub\n'
        "model = AutoModelForImageTextToText.from_pretrained(name)\n"
        "processor = AutoProcessor.from_pretrained(name)\n```"
    )


def _data(record: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    held_out = {Path(str(file)).name for file in config.get("eval_data") or ()}
    rows = []
    for file in record.get("data") or ():
        name = Path(str(file.get("path"))).name
        rows.append((name, "held out" if name in held_out else "training", file.get("bytes"), file.get("sha256")))
    if not rows:
        return "The script that trained this model read its data itself; nothing of it is recorded."
    return _table(("file", "for", "bytes", "sha256"), rows)


def _placement(config: Mapping[str, Any]) -> str:
    given = [(name, config[name]) for name in PLACEMENT if name in config]
    said = "Every image is where its marker is in the prompt."
    if config.get("chat_template_images") == "template":
        said = "The chat template decides where the images of a prompt are."
    if config.get("placement") == "first":
        said = "All images of a prompt are in front of its text."
    return said if not given else f"{said} Options that count here:\n\n{_table(('option', 'value'), given)}"


def _rewards(facts: CardFacts) -> str:
    def last(name: str) -> Any:
        values = [entry[key] for entry in facts.log for key in (f"rewards/{name}/mean",) if key in entry]
        return values[-1] if values else None

    rows = [(name, weight, last(name)) for name, weight in facts.rewards.items()]
    return _table(("reward", "weight", "mean at the last step that was logged"), rows)


def _evaluation(facts: CardFacts) -> str:
    found: dict[str, Any] = {}
    wanted = re.compile(r"eval_.*(reward|rewards/.*/mean)$" if facts.rewards else r"eval_(.*_)?loss$")
    for entry in facts.log:
        found.update({key: value for key, value in entry.items() if wanted.match(key)})
    if facts.measured:
        rows = [(name, before, after) for name, (before, after) in facts.measured.items()]
        return _table(("held-out questions of the demo", "before", "after"), rows)
    if not found:
        return (
            "No held-out rows were evaluated during the run. `triptych eval` compares this model with its base on rows "
            "of your own."
        )
    return _table(("held-out rows", "mean at the last evaluation"), list(found.items()))


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        said = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return said if isinstance(said, dict) else {}


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(_cell, row))} |" for row in rows)])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    """A name of the user's without what Markdown would obey."""
    return re.sub(r"[`|\[\]<>\"]", "", printable(str(value), kept=""))
