"""The packed row and the replicated rows, by one golden case and by properties."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from triptych_parser import ImageSpan
from triptych_trainer.forward import CompletionImage, GroupBatch
from triptych_trainer.forward.layout import packed_layout, packed_positions, padded_layout, padded_positions
from triptych_trainer.forward.positions import BatchPositions

GOLDEN = GroupBatch.build([[10, 11, 12], [20, 21]], completions=[[[1, 2, 3], [], [4]], [[5, 6]]])


def test_golden_packed_row():
    layout = packed_layout(GOLDEN)
    assert layout.ids.tolist() == [10, 11, 12, 1, 2, 12, 20, 21, 5]
    assert layout.label_positions.tolist() == [2, 3, 4, 5, 7, 8]
    assert layout.labels.tolist() == [1, 2, 3, 4, 5, 6]
    assert layout.rows.tolist() == [0, 0, 0, 2, 3, 3]
    assert layout.columns.tolist() == [0, 1, 2, 0, 0, 1]
    assert [(g.start, g.prefix, g.branches, g.end) for g in layout.groups] == [(0, 2, (3, 1), 6), (6, 1, (2,), 9)]


def test_golden_positions_continue_behind_the_prompt():
    prompts = (torch.tensor([[0, 1, 2], [0, 5, 7]]), torch.tensor([[0, 1], [0, 1]]))
    positions = BatchPositions(prompts=prompts, following=(8, 2), completions={})
    packed = packed_positions(packed_layout(GOLDEN), positions)
    assert packed.tolist() == [[0, 1, 2, 8, 9, 2, 0, 1, 2], [0, 5, 7, 8, 9, 7, 0, 1, 2]]
    layout = padded_layout(GOLDEN, pad_id=99)
    assert layout.ids.tolist() == [
        [10, 11, 12, 1, 2, 3],
        [10, 11, 12, 99, 99, 99],
        [10, 11, 12, 4, 99, 99],
        [99, 20, 21, 5, 6, 99],
    ]
    assert layout.mask.tolist()[3] == [0, 1, 1, 1, 1, 0]
    padded = padded_positions(layout, positions)
    assert padded[1, 0].tolist() == [0, 5, 7, 8, 9, 10]
    assert padded[0, 3].tolist() == [0, 0, 1, 2, 3, 4]


def test_only_scored_tokens_are_labels_and_images_move_what_follows_them():
    span = ImageSpan(start=1, length=4, image=0, runs=((1, 4),))
    batch = GroupBatch.build(
        [[10, 11, 12]],
        completions=[[[1, 9, 9, 9, 9, 2, 3], [4, 5]]],
        trained=[[[True, False, False, False, False, False, True], [True, True]]],
        images=[{}],
        completion_images=[[[CompletionImage(image=0, span=span)], []]],
    )
    layout = packed_layout(batch)
    assert layout.ids.tolist() == [10, 11, 12, 1, 9, 9, 9, 9, 2, 12, 4]
    assert layout.label_positions.tolist() == [2, 8, 9, 10]
    assert layout.labels.tolist() == [1, 3, 4, 5]
    assert layout.columns.tolist() == [0, 6, 0, 1]
    assert layout.completion_starts == [(0, 0, 0, 3), (0, 1, 0, 10)]
    own = torch.tensor([[3, 4, 4, 4, 4, 6, 7], [3, 4, 5, 4, 5, 6, 7]])
    positions = BatchPositions(prompts=(torch.tensor([[0, 1, 2]] * 2),), following=(3,), completions={(0, 0): own})
    assert packed_positions(layout, positions)[1].tolist() == [0, 1, 2, 3, 4, 5, 4, 5, 6, 2, 3]
    padded = padded_layout(batch, pad_id=99)
    assert padded.scored.tolist() == [[True, *[False] * 5, True], [True, True, *[False] * 5]]
    assert padded_positions(padded, positions)[0, 0].tolist() == [0, 1, 2, 3, 4, 4, 4, 4, 6, 7]
    assert padded.completion_starts == [(0, 0, 0, 3), (0, 1, 1, 3)]


IDS = st.lists(st.integers(1, 50), min_size=1, max_size=6)
GROUPS = st.lists(
    st.tuples(IDS, st.lists(st.lists(st.integers(1, 50), max_size=5), max_size=4)), min_size=1, max_size=4
)


@settings(max_examples=100, deadline=None)
@given(GROUPS)
def test_every_completion_token_has_one_label_position_and_its_own_past(groups):
    batch = GroupBatch.build([ids for ids, _ in groups], completions=[completions for _, completions in groups])
    layout = packed_layout(batch)
    rows = [(list(ids), list(c)) for ids, completions in groups for c in completions]
    seen: dict[tuple[int, int], int] = {}
    for position, label, row, column in zip(
        layout.label_positions.tolist(),
        layout.labels.tolist(),
        layout.rows.tolist(),
        layout.columns.tolist(),
        strict=True,
    ):
        prompt, completion = rows[row]
        assert label == completion[column]
        assert layout.ids[position] == (prompt + completion)[len(prompt) + column - 1]
        seen[row, column] = position
    assert len(seen) == sum(len(c) for _, c in rows)
    expected = sum(len(ids) - 1 + sum(map(len, completions)) for ids, completions in groups)
    assert len(layout.ids) == expected == layout.groups[-1].end
