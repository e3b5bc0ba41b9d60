"""Make a small model that already writes calls at random, so that a recipe of this folder runs on a CPU in a minute.

    python examples/environments/tiny_model.py grid outputs/tiny_grid

It is the model of the built-in demo, shown a few hundred calls of the environment's tools behind its first pictures.
"""

import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from triptych_data import Example, read_examples
from triptych_trainer.demo.look.evaluate import demo_player
from triptych_trainer.demo.model import build_model
from triptych_trainer.demo.processor import build_processor
from triptych_trainer.demo.tokenizer import CHAT_TEMPLATE, trained_tokenizer
from triptych_trainer.options.own_code import read_environment
from triptych_trainer.rollouts.rollout import RolloutGroup
from triptych_trainer.trajectories.messages import described
from triptych_trainer.trajectories.play import Play

HERE = Path(__file__).parent
STEPS, BATCH = 60, 4


def call(name: str, **arguments: Any) -> str:
    """A call as a model without a format of its own writes it."""
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


def walk(rng: random.Random) -> str:
    """A few steps of MiniGrid."""
    return call("act", actions=rng.choices(["left", "right", "forward"], weights=[1, 1, 3], k=rng.randint(1, 3)))


def click(rng: random.Random) -> str:
    """A click somewhere on a page."""
    return call("click", x=rng.randrange(50, 1000, 50), y=rng.randrange(250, 1000, 50))


ENVIRONMENTS: dict[str, tuple[str, Callable[[random.Random], str]]] = {
    "grid": ("MiniGrid", walk),
    "pages": ("MiniWob", click),
}


def main(name: str, folder: str) -> None:
    """Build the model for one environment and save it."""
    kind, write = ENVIRONMENTS[name]
    environment = read_environment([f"{HERE / f'{name}.py'}:{kind}"])
    assert environment is not None
    examples = list(read_examples(HERE / f"{name}.jsonl"))
    torch.set_num_threads(1)
    tokenizer = trained_tokenizer(
        sentences(environment, examples, write), chat_template=CHAT_TEMPLATE, format_tokens=TAGS
    )
    model, processor = build_model(0, tokenizer), build_processor(tokenizer)
    model.config.text_config.max_position_embeddings = 4096
    with demo_player(model, processor=processor, examples=examples, environment=environment) as play:
        teach(model, play, examples=examples, write=write)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    print(f"{folder}: {sum(weight.numel() for weight in model.parameters()) / 1e6:.1f} M parameters")


TAGS = ("<tool_call>", "</tool_call>", "<tools>", "</tools>", "<tool_response>", "</tool_response>")


def sentences(
    environment: Callable[[], Any], examples: Sequence[Example], write: Callable[[random.Random], str]
) -> list[str]:
    """What the model reads and writes, for its tokenizer."""
    from triptych_trainer.trajectories.environments import Environments

    environments = Environments(environment)
    one = environments.take(1)
    schemas = [tool.schema for tool in environments.tools(one[0]).values()]
    first = [piece for piece in environments.reset(one, examples[0].extras, where="row 1") if isinstance(piece, str)]
    rng = random.Random(0)
    return ["user\n", "assistant\n", "system\n", described(schemas), *first, *(write(rng) for _ in range(50))] * 3


def teach(model: Any, play: Play, *, examples: Sequence[Example], write: Callable[[random.Random], str]) -> None:
    """Train the model to write calls behind the first pictures of the rows."""
    rng, tokenizer = random.Random(0), play.preparer.processor.tokenizer
    prompts = []
    for row, example in enumerate(examples):
        dressed = play.dressed(example, key=row, is_text=False)
        group = RolloutGroup(key=row, prompt=play.preparer(dressed))
        assert play.environments is not None
        seen = play.environments.reset(play.environments.take(1), play.row_of(row, example), where=example.source)
        prompts.append(play.observed(group, seen).prompt)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0)
    model.train()
    for step in range(1, STEPS + 1):
        chosen = rng.sample(prompts, BATCH)
        said = [tokenizer(f"{write(rng)}{tokenizer.eos_token}").input_ids for _ in chosen]
        rows = [[*prompt.ids, *ids] for prompt, ids in zip(chosen, said, strict=True)]
        batch = tokenizer.pad({"input_ids": rows}, padding_side="right", return_tensors="pt")
        labels_BT = torch.full_like(batch["input_ids"], -100)
        for k, (ids, own) in enumerate(zip(rows, said, strict=True)):
            labels_BT[k, len(ids) - len(own) : len(ids)] = torch.tensor(own)
        images = [inputs for prompt in chosen for inputs in prompt.image_inputs]
        shown = {key: torch.cat([image[key] for image in images]) for key in ("pixel_values", "image_grid_thw")}
        types = (batch["input_ids"] == model.config.image_token_id).int()
        logits_BTV = model(**batch, **shown, mm_token_type_ids=types, use_cache=False).logits[:, :-1]
        loss = F.cross_entropy(logits_BTV.flatten(0, 1), labels_BT[:, 1:].flatten(), ignore_index=-100)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 20 == 0:
            print(f"step {step} of {STEPS}: loss {loss.item():.2f}")
    model.eval()


if __name__ == "__main__":
    main(*sys.argv[1:])
