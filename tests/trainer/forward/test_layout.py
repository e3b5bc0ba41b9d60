"""The packed row and the replicated rows, by one golden case and by properties."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from triptych_trainer.forward import GroupBatch
from triptych_trainer.forward.layout import packed_layout, packed_positions, padded_layout, padded_positions

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
    prompts = [torch.tensor([[0, 1, 2], [0, 5, 7]]), torch.tensor([[0, 1], [0, 1]])]
    packed = packed_positions(packed_layout(GOLDEN), prompt_positions=prompts, next_positions=[8, 2])
    assert packed.tolist() == [[0, 1, 2, 8, 9, 2, 0, 1, 2], [0, 5, 7, 8, 9, 7, 0, 1, 2]]
    layout = padded_layout(GOLDEN, pad_id=99)
    assert layout.ids.tolist() == [
        [10, 11, 12, 1, 2, 3],
        [10, 11, 12, 99, 99, 99],
        [10, 11, 12, 4, 99, 99],
        [99, 20, 21, 5, 6, 99],
    ]
    assert layout.mask.tolist()[3] == [0, 1, 1, 1, 1, 0]
    padded = padded_positions(layout, prompt_positions=prompts, next_positions=[8, 2])
    assert padded[1, 0].tolist() == [0, 5, 7, 8, 9, 10]
    assert padded[0, 3].tolist() == [0, 0, 1, 2, 3, 4]


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
