from dataclasses import replace
from pathlib import Path

import pytest
from triptych_trainer.report.summary import choose, flat_curves, histories, length_curves, reward_curves, total_curves
from triptych_trainer.rollouts.parts import ReportError
from triptych_trainer.rollouts.read import Visit, read_visits


def visit(step, sample, totals, *, mode="train", tokens=None, rewards=None):
    return Visit(
        step=step,
        mode=mode,
        key=sample,
        sample_id=sample,
        num_tokens=tokens or [3] * len(totals),
        rewards=rewards or {"accuracy": totals},
        totals=totals,
        advantages=[0.0] * len(totals),
        part=Path("part"),
        row=0,
    )


VISITS = [
    visit(1, "a", [0.0, 1.0], tokens=[2, 4]),
    visit(1, "b", [1.0, 1.0], tokens=[6, 8]),
    visit(2, "a", [1.0, None]),
    visit(2, "c", [None, None]),
    visit(2, "a", [0.0, 0.0], mode="eval"),
]


def test_a_visit_knows_its_mean_and_spread():
    assert [v.mean for v in VISITS] == [0.5, 1.0, 1.0, None, 0.0]
    assert [v.spread for v in VISITS] == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert [v.is_flat for v in VISITS] == [False, True, True, True, True]


def test_total_curves_are_means_with_deviation_per_step_and_mode():
    train, held_out = total_curves(VISITS)
    assert (train.mode, train.steps, train.values) == ("train", [1, 2], [0.75, 1.0])
    assert train.low == pytest.approx([0.75 - 0.1875**0.5, 1.0])
    assert train.high == pytest.approx([0.75 + 0.1875**0.5, 1.0])
    assert (held_out.mode, held_out.steps, held_out.values) == ("eval", [2], [0.0])


def test_each_reward_has_its_curve_where_it_was_scored():
    visits = [visit(1, "a", [1.0], rewards={"x": [1.0], "y": [None]}), visit(2, "a", [1.0], rewards={"y": [0.5]})]
    assert [(curve.name, curve.steps, curve.values) for curve in reward_curves(visits)] == [
        ("x", [1], [1.0]),
        ("y", [2], [0.5]),
    ]


def test_length_and_flat_curves():
    assert length_curves(VISITS)[0].values == [5.0, 3.0]
    assert [curve.values for curve in flat_curves(VISITS)] == [[0.5, 1.0], [1.0]]


def test_change_is_last_minus_first_in_training():
    known = histories(VISITS)
    assert known["a"].change == 0.5
    assert known["a"].steps == [1, 2]
    assert known["b"].change is None
    assert known["c"].change is None


def test_rows_with_equal_ids_have_histories_of_their_own():
    first, other = (replace(visit(1, key, [value]), sample_id="x") for key, value in (("t:0", 0.0), ("t:1", 1.0)))
    later = replace(visit(2, "t:1", [0.5]), sample_id="x")
    assert {key: list(found.means) for key, found in histories([first, other, later]).items()} == {
        "t:0": [0.0],
        "t:1": [1.0, 0.5],
    }


def test_all_groups_are_shown_when_they_fit():
    assert choose(VISITS, limit=5) == VISITS


def test_first_and_last_visits_of_what_moved_most_are_kept_first():
    visits = [visit(step, "still", [0.0, 1.0]) for step in (1, 2, 3)]
    visits += [visit(step, "moved", [step / 3, step / 3]) for step in (1, 2, 3)]
    kept = choose(sorted(visits, key=lambda v: v.step), limit=3)
    assert [(v.sample_id, v.step) for v in kept] == [("moved", 1), ("still", 3), ("moved", 3)]


def test_a_folder_without_rollouts_is_named(tmp_path):
    with pytest.raises(ReportError, match="no rollouts in .*rollouts; expected the output folder of a run"):
        read_visits(tmp_path)


def test_a_damaged_part_is_named(tmp_path):
    (tmp_path / "rollouts").mkdir()
    (tmp_path / "rollouts" / "step-00000001-train-rank000-0000.parquet").write_bytes(b"half")
    with pytest.raises(ReportError, match=r"step-00000001-train-rank000-0000.parquet: cannot be read .* move it away"):
        read_visits(tmp_path)


def test_a_part_that_is_being_written_is_not_read(tmp_path, run_dir):
    whole = sorted((run_dir / "rollouts").glob("*.parquet"))[0]
    (tmp_path / "rollouts").mkdir()
    (tmp_path / "rollouts" / whole.name).write_bytes(whole.read_bytes())
    (tmp_path / "rollouts" / f".{whole.name}.77.part").write_bytes(b"half")
    assert len(read_visits(tmp_path)) == 2
