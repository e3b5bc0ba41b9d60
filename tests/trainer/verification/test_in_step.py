"""Ranks that share weights compare their own rows where they can run in step, and one rank's rows where they cannot."""

import pytest
from triptych_trainer.verification import in_step
from triptych_trainer.verification.in_step import rows_in_step

KEPT = {
    "images on all ranks, then on none": ([3, 0], [1, 0], [0, 1]),
    "the second prompts are out of step": ([3, 0], [2, 1], [0]),
    "one rank has a single prompt": ([3, 1], [2], [0]),
    "no rank has images": ([0, 0], [0], [0]),
}
SENT = {
    "images here alone": ([2, 0], [0, 0], 0),
    "images there alone": ([0], [1, 0], 1),
    "no place is in step": ([2], [0], 0),
    "a rank without prompts": ([], [1], 1),
}


@pytest.fixture
def rows(kit_of, rows_of, monkeypatch):
    """Two rows of this rank, the numbers of images that all ranks report, and from which rank rows were sent."""
    batch, rows = rows_of(kit_of("llava"))
    senders = []

    def rows_in_step_of(mine, other):
        monkeypatch.setattr(in_step, "of_ranks", lambda own: [mine, other])
        monkeypatch.setattr(in_step.dist, "broadcast_object_list", lambda given, src: senders.append(src))
        found, compared = rows_in_step(batch, rows)
        return [batch.prompts.index(ids) for ids in found.prompts], [rows.index(row) for row in compared], senders

    return rows_in_step_of


@pytest.mark.parametrize("case", KEPT)
def test_own_rows_are_kept_where_they_are_in_step_and_leave_no_image_out(rows, case):
    mine, other, kept = KEPT[case]
    assert rows(mine, other) == (kept, kept, [])


@pytest.mark.parametrize("case", SENT)
def test_the_rows_of_the_rank_with_the_most_images_are_sent_where_own_ones_would_leave_images_out(rows, case):
    mine, other, sender = SENT[case]
    assert rows(mine, other)[2] == [sender]
