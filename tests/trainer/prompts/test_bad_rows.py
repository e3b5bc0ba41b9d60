"""Rows that turn out to be unusable: listed once, counted, and replaced by draws that a resumed run repeats."""

import json

import pytest
import torch
from triptych_data import DataError
from triptych_trainer.prompts.bad_rows import BadRows, prepared_with


def failing(*keys, kind="truncated"):
    """Prepare every row but these; a prepared prompt is its key here."""

    def prepare(key):
        if key in keys:
            raise DataError(f"image {key} is cut", source=f"rows.jsonl:{key + 1}", remedy="copy it", kind=kind)
        return key

    return prepare


def prepared(bad, sizes, *keys, num_rows=10, step=0, **options):
    return prepared_with(
        bad, sizes, prepare=failing(*keys, **options), rows_beside=lambda key: range(num_rows), step=step
    )


def bad_rows(tmp_path, *, max_bad=5, said=None):
    say = (lambda text: None) if said is None else said.append
    return BadRows(max_bad=max_bad, num_rows=10, seed=3, quarantine=tmp_path / "quarantine.jsonl", say=say)


def test_another_row_of_the_table_takes_its_place_with_all_its_completions(tmp_path):
    said = []
    bad = bad_rows(tmp_path, said=said)
    prompts, sizes = prepared(bad, {0: 4, 1: 4, 2: 4}, 1)
    assert len(prompts) == 3
    assert 1 not in prompts
    assert {0, 2} < set(prompts) < set(range(10))
    assert sizes == dict.fromkeys(prompts, 4)
    (line,) = (tmp_path / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "source": "rows.jsonl:2",
        "id": None,
        "kind": "truncated",
        "reason": "image 1 is cut",
        "remedy": "copy it",
    }
    assert said == ["left out: rows.jsonl:2: image 1 is cut; copy it"]


def test_the_draw_depends_on_seed_step_and_row_alone(tmp_path):
    draws = [set(prepared(bad_rows(tmp_path), {1: 2}, 1, step=step)[0]) for step in (0, 0, 1, 2, 3, 4)]
    assert draws[0] == draws[1]
    assert len(set(map(frozenset, draws))) > 1


def test_a_resumed_run_leaves_out_the_same_rows_and_draws_the_same_ones(tmp_path):
    bad, file = bad_rows(tmp_path), tmp_path / "state.pt"
    prepared(bad, dict.fromkeys(range(6), 2), 1, 4, 5)
    torch.save(bad.to_state(), file)
    resumed = bad_rows(tmp_path)
    resumed.restore(torch.load(file, weights_only=True))
    assert {key: str(error) for key, error in resumed.known.items()} == {k: str(e) for k, e in bad.known.items()}
    draws = [prepared(rows, {1: 2, 7: 2}, 1, 4, 5, 8, step=9)[1] for rows in (bad, resumed)]
    assert draws[0] == draws[1]
    without = [prepared(bad_rows(tmp_path), {1: 2, 7: 2}, 1, 4, 5, step=step)[1] for step in range(20)]
    kept = [prepared(resumed, {1: 2, 7: 2}, 1, 4, 5, step=step)[1] for step in range(20)]
    assert without != kept, "a run that forgot them would draw other rows"


def test_a_row_is_listed_once_and_not_tried_again(tmp_path):
    bad = bad_rows(tmp_path)
    for step in range(3):
        prepared(bad, {1: 2}, 1, step=step)
    assert len((tmp_path / "quarantine.jsonl").read_text().splitlines()) == 1
    assert list(bad.known) == [1]


def test_a_row_that_two_ranks_leave_out_is_listed_once_and_counts_on_both(tmp_path):
    ranks = bad_rows(tmp_path), bad_rows(tmp_path)
    for bad in ranks:
        prepared(bad, {1: 2}, 1)
    prepared(ranks[0], {2: 2}, 2)
    listed = [json.loads(line)["source"] for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert listed == ["rows.jsonl:2", "rows.jsonl:3"]
    assert [list(bad.known) for bad in ranks] == [[1, 2], [1]]


def test_where_every_other_row_is_in_the_batch_one_of_them_gets_more_completions(tmp_path):
    prompts, sizes = prepared(bad_rows(tmp_path), {0: 2, 1: 2, 2: 2}, 1, num_rows=3)
    assert set(prompts) == {0, 2}
    assert sorted(sizes.values()) == [2, 4]


def test_more_than_allowed_end_the_run_with_the_last_reason(tmp_path):
    with pytest.raises(DataError, match=r"at most 2 refused rows of 10, got 3; the last: image 3 is cut"):
        prepared(bad_rows(tmp_path, max_bad=2), {1: 1, 2: 1, 3: 1}, 1, 2, 3)


def test_a_table_without_a_usable_row_says_so(tmp_path):
    with pytest.raises(DataError, match="is cut"):
        prepared(bad_rows(tmp_path, max_bad=9), {0: 1}, *range(10))


@pytest.mark.parametrize("skip", [True, False])
def test_errors_of_disk_or_network_and_runs_that_may_not_skip_stop(tmp_path, skip):
    bad = bad_rows(tmp_path) if skip else None
    with pytest.raises(DataError, match="image 1 is cut"):
        prepared(bad, {1: 1}, 1, kind="io" if skip else "truncated")
    assert not (tmp_path / "quarantine.jsonl").exists()
