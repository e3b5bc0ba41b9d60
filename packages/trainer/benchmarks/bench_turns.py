"""A step of rollouts with a tool at a small size, by both trainers: what each pays for, and the same tokens."""

import pytest

SIZES = {"hidden": 64, "layers": 2, "vision_hidden": 32, "vision_layers": 2, "vocabulary": 1024, "side_pixels": 64}


@pytest.mark.slow
@pytest.mark.benchmark(group="step with a tool")
@pytest.mark.parametrize("shared", [True, False], ids=["same", "different"])
def test_step_with_a_tool(benchmark, turns_subject, tmp_path, shared):
    case = turns_subject.Case(turns=2, shared=shared, group=3, **SIZES)
    steps = {}

    def step(kind):
        steps[kind] = turns_subject.measure(turns_subject.trainer_of(kind, tmp_path / kind, case))

    step("trl")
    benchmark.pedantic(step, args=("triptych",), rounds=1)
    ours, stock = steps["triptych"], steps["trl"]
    assert ours.completion_ids == stock.completion_ids, "the same tokens of the tool, and at the same places"
    assert (ours.preprocessed, ours.encoded) == (case.num_unique, case.num_unique), "although the tower is trained"
    assert stock.encoded > case.num_shown > ours.encoded
    assert ours.prefilled_tokens < stock.prefilled_tokens / 2
    benchmark.extra_info.update(ratio=stock.seconds / ours.seconds, images=case.num_unique, images_stock=stock.encoded)
