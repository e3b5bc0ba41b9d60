"""The worked examples of docs/architecture.md, computed again: every number that the page shows is compared."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText
from triptych_data import ImageLoader, read_examples
from triptych_data.seen_headers import header_sizes
from triptych_kernels import merge
from triptych_trainer.forward import GroupBatch, encode_images, install_hooks, shared_logps, sliced_logps
from triptych_trainer.forward.layout import PackedLayout, packed_layout, packed_positions
from triptych_trainer.forward.merge import build_plan, image_places
from triptych_trainer.forward.positions import batch_positions
from triptych_trainer.models.families import family_of
from triptych_trainer.models.load import load_processor
from triptych_trainer.prompts.prepare import PreparedPrompt, PromptPreparer

from .commands import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROW = json.loads(PAGE.split("```json\n")[1].split("```")[0])
COMPLETIONS = [[11, 12, 13], [14], [15, 16]]


@pytest.fixture(scope="module")
def model(model_dir: Path) -> torch.nn.Module:
    model = AutoModelForImageTextToText.from_pretrained(model_dir)
    install_hooks(model)
    return model


@pytest.fixture(scope="module")
def prompt(model_dir: Path, model: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> PreparedPrompt:
    """The row of the page, read from a file and prepared as a run prepares it."""
    folder = tmp_path_factory.mktemp("row")
    Image.new("RGB", (56, 56), (200, 30, 30)).save(folder / "a.png")
    Image.new("RGB", (84, 56), (30, 160, 60)).save(folder / "b.png")
    (folder / "train.jsonl").write_text(json.dumps(ROW) + "\n")
    (example,) = read_examples(folder / "train.jsonl")
    with ImageLoader(threads=1) as loader:
        return PromptPreparer(load_processor(str(model_dir)), loader=loader, family=family_of(model))(example)


@pytest.fixture(scope="module")
def batch(prompt: PreparedPrompt) -> GroupBatch:
    return GroupBatch.build([prompt.ids], spans=[prompt.spans], images=prompt.image_inputs, completions=[COMPLETIONS])


def numbers(values: object) -> str:
    return ", ".join(map(str, values.tolist() if isinstance(values, torch.Tensor) else values))  # type: ignore[call-overload]


def test_the_walk_of_one_row(prompt, batch, model):
    segments = prompt.example.prompt.prompt.turns[0].segments
    assert [getattr(segment, "text", "image") for segment in segments] == [
        *("Before: ", "image", " After: ", "image", " What changed?")
    ]
    assert "five segments: text, image, text, image, text" in PAGE
    assert prompt.example.prompt.image_order == (0, 1)
    assert f"sizes (height, width) {numbers(header_sizes(prompt.example))}" in PAGE
    spans = [f"{first} to {first + length - 1}" for span in prompt.spans for first, length in span.runs]
    lengths = [span.num_features for span in prompt.spans]
    assert f"{len(prompt.ids)} token ids; {lengths[0]} placeholders at {spans[0]}, {lengths[1]} at {spans[1]}" in PAGE
    patches = [inputs["pixel_values"].shape for inputs in prompt.image_inputs]
    assert f"{patches[0][0]} and {patches[1][0]} patches of {patches[0][1]} numbers" in PAGE
    layout = packed_layout(batch)
    assert f"one row of {len(layout.ids)} places" in PAGE
    plan = build_plan(image_places(batch, starts=[(0, 0, 0)]), shape=(1, len(layout.ids)), num_images=2)
    assert plan.positions.tolist() == [*range(7, 11), *range(16, 22)]
    taken = plan.src[0]
    assert (
        f"feature rows 0 to {lengths[0] - 1} at places {spans[0]}, {lengths[0]} to {sum(lengths) - 1} at {spans[1]}"
        in PAGE
    )
    assert taken[[first for span in prompt.spans for first, _ in span.runs]].tolist() == [0, lengths[0]]
    features = encode_images(model, batch.images)
    assert f"features of {features.rows.shape[0]} x {features.rows.shape[1]}" in PAGE
    embeds_BTD = model.get_input_embeddings()(layout.ids)[None]
    merged = merge(embeds_BTD, features.rows, plan)
    assert f"result of {' x '.join(map(str, merged.shape))}" in PAGE
    assert torch.equal(merged[0, taken >= 0], features.rows)
    assert torch.equal(merged[0, taken < 0], embeds_BTD[0, taken < 0])


def branch_cells(values: torch.Tensor, layout: PackedLayout) -> list[str]:
    (group,) = layout.groups
    return [numbers(part) for part in values[group.prefix :].split(group.branches)]


def test_the_packed_row(prompt, batch, model):
    layout, family = packed_layout(batch), family_of(model)
    positions_AT = packed_positions(layout, batch_positions(family, family.vision_language_model(model), batch))
    prefix = layout.groups[0].prefix
    assert positions_AT[:, prefix:].unique(dim=0).shape[0] == 1, "behind the images all three axes agree"
    assert layout.label_positions.tolist() == list(range(prefix, len(layout.ids)))
    rows = {
        "token ids": [f"first {prefix} tokens", *branch_cells(layout.ids, layout)],
        "place in the row": [f"0 to {prefix - 1}", *branch_cells(torch.arange(len(layout.ids)), layout)],
        "position (rotary)": [f"0 to {positions_AT[0, prefix - 1]}", *branch_cells(positions_AT[0], layout)],
        "label": ["none", *map(numbers, COMPLETIONS)],
    }
    for name, cells in rows.items():
        assert f"| {name} | {' | '.join(cells)} |" in PAGE
    replicated = len(prompt.ids) + 3
    assert f"The prompt of the example has {len(prompt.ids)} tokens" in PAGE
    assert f"The row has {len(layout.ids)} places instead of 3 x {replicated} = {3 * replicated}" in PAGE


def test_the_slices(batch, model):
    calls: list[str] = []
    text = family_of(model).language_model(family_of(model).vision_language_model(model))
    hook = text.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(" x ".join(map(str, kwargs["inputs_embeds"].shape[:2]))),
        with_kwargs=True,
    )

    def gradients(logps: torch.Tensor) -> dict[str, torch.Tensor]:
        model.zero_grad()
        (logps.sum() / 6).square().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    whole = gradients(shared_logps(model, batch)[0])
    calls.clear()
    sliced_logps_BC, _ = sliced_logps(model, batch, rows_per_slice=2)
    assert f"| forward, without a graph | {' | '.join(calls)} |" in PAGE
    calls.clear()
    sliced = gradients(sliced_logps_BC)
    assert f"| backward, with a graph | {' | '.join(calls)} |" in PAGE
    hook.remove()
    assert sliced.keys() == whole.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(sliced[name], gradient, rtol=1e-4, atol=1e-4)


def test_the_gradients_on_paper():
    w = torch.tensor(2.0, requires_grad=True)
    logps = torch.stack([w, 3 * w, -w])
    assert logps.tolist() == [2, 6, -2]
    loss = logps.mean().square()
    (shares,) = torch.autograd.grad(loss, logps, retain_graph=True)
    assert shares.tolist() == pytest.approx([4 / 3] * 3)
    h = w.detach().requires_grad_()
    for part, expected in ((torch.stack([h, 3 * h]), 16 / 3), (-h[None], -4 / 3)):
        (gradient,) = torch.autograd.grad((part * shares[0]).sum(), h)
        assert gradient.item() == pytest.approx(expected)
    (whole,) = torch.autograd.grad(loss, w)
    assert (loss.item(), whole.item()) == (4, 4) == (4, pytest.approx(16 / 3 - 4 / 3))
