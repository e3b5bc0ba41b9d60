"""`train` on a folder of every family, with its whole processor and a few rows: it starts, learns and ends."""

from contextlib import nullcontext

import pytest
import torch
from transformers import AutoModelForImageTextToText
from triptych_trainer.forward.verify import SharingWarning
from triptych_trainer.models.families import family_of

IMAGES = (2, 0, 1, 3)


@pytest.mark.slow
def test_a_run_starts_learns_and_ends(kit, family_name, folder_of, rows, train, order, tmp_path, capsys, record):
    counts = IMAGES if kit.case.text_only else [count or 1 for count in IMAGES]
    plain = family_of(kit.stock).path == "plain"
    with pytest.warns(SharingWarning, match="once per completion") if plain else nullcontext():
        code = train(folder_of(family_name), rows(counts), order, tmp_path / "out")
    assert code == 0, capsys.readouterr().err[-2000:]
    trained = AutoModelForImageTextToText.from_pretrained(tmp_path / "out").state_dict()
    before = kit.stock.state_dict()
    moved = [name for name, values in trained.items() if not torch.equal(values, before[name].to(values.dtype))]
    assert all(torch.isfinite(trained[name]).all() for name in moved)
    assert len(moved) > len(before) / 2
    record(command=True)


def test_a_row_without_images_is_refused_where_the_model_needs_one(folder_of, rows, train, order, tmp_path, capsys):
    code = train(folder_of("paligemma"), rows((1, 0, 1, 2)), order, tmp_path / "out")
    said = capsys.readouterr().err
    assert code == 2
    assert "row-1" in said
    assert "Traceback" not in said
