"""Throughput from counters, and the table that closes a run."""

import io

import psutil
from rich.console import Console
from triptych_data import progress
from triptych_trainer.monitor import pace
from triptych_trainer.monitor.pace import Pace, Stopwatch, closing_table


def printed(table) -> str:
    console = Console(width=120, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


def test_a_stopwatch_counts_from_where_it_started(monkeypatch):
    now = iter([0.0, 10.0, 12.0, 16.0])
    monkeypatch.setattr(pace.time, "monotonic", lambda: next(now))
    watch = Stopwatch()
    watch.start(tokens=1000.0, images=50.0)
    assert str(watch.cut(tokens=5000.0, images=60.0)) == "2,000 tokens/s  5.0 images/s"
    assert watch.cut(tokens=6000.0, images=60.0) == Pace(seconds=4.0, tokens=1000.0, images=0.0)
    assert watch.whole() == Pace(seconds=6.0, tokens=5000.0, images=10.0)


def test_a_run_of_text_names_no_images():
    assert str(Pace(seconds=2.0, tokens=10.0, images=0.0)) == "5 tokens/s"


def test_the_closing_table_sets_the_first_tenth_beside_the_last():
    logged = [
        {"reward": float(k), "rewards/accuracy/mean": k / 20, "rewards/accuracy/std": 0.5, "completions/mean_length": 8}
        | {"tools/call_frequency": 0.1 * k, "tools/ended_by_room": 1.0}
        for k in range(20)
    ]
    held_out = [{"eval_reward": 0.25 * k, "eval_rewards/accuracy/mean": k, "eval_far_reward": 3.0} for k in range(3)]
    whole = Pace(seconds=4.0, tokens=8.0, images=2.0)
    text = printed(closing_table(logged, whole, title="GRPO, 20 steps", held_out=held_out))
    assert "first 2 logs" in text
    assert "last 2 logs" in text
    rows = {
        cells[0].strip(): [cell.strip() for cell in cells[1:]]
        for cells in (line.strip("│ ").split("│") for line in text.splitlines() if line.startswith("│"))
    }
    assert rows["reward"] == ["0.500", "18.500"]
    assert rows["accuracy"] == ["0.025", "0.925"]
    assert rows["completion tokens"] == ["8.000", "8.000"]
    assert rows["calls per rollout"] == ["0.050", "1.850"]
    assert rows["held out: reward"] == ["0.000", "0.500"]
    assert (rows["held out: accuracy"], rows["held out (far): reward"]) == (["0.000", "2.000"], ["3.000", "3.000"])
    assert set(rows) - {"reward", "accuracy", "completion tokens", "calls per rollout"} == {
        *("held out: reward", "held out: accuracy", "held out (far): reward"),
    }
    assert "2 tokens/s  0.5 images/s" in text
    assert "peak memory" in text


def test_a_reward_that_was_never_scored_shows_a_dash():
    logged = [{"reward": 1.0, "rewards/iou/mean": None}, {"reward": 1.0, "rewards/iou/mean": 0.5}]
    text = printed(closing_table(logged, Pace(seconds=1.0, tokens=1.0, images=0.0), title=""))
    assert [cell.strip() for cell in next(x for x in text.splitlines() if "iou" in x).strip("│ ").split("│")] == [
        "iou",
        "-",
        "0.500",
    ]


def test_the_name_of_a_reward_is_neither_markup_nor_an_order_to_the_terminal():
    text = printed(
        closing_table(
            [{"reward": 1.0, "rewards/[b]a/\x1b[31mb/mean": 1.0}], Pace(seconds=1.0, tokens=1.0, images=0.0), title=""
        )
    )
    assert r"[b]a/\x1b[31mb" in text
    assert "\x1b" not in text


def test_peak_memory_is_at_least_what_is_resident_now():
    assert pace.peak_bytes() >= 0.9 * psutil.Process().memory_info().rss
    assert pace.peak_bytes() < psutil.virtual_memory().total


def test_the_time_left_of_a_resumed_run_counts_its_own_steps(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    said = []
    stage = progress.Stage(name="GRPO", total=None, say=said.append)
    stage.start_at(900, total=1000)
    now[0] += 20.0
    stage.move_to(910)
    assert said == ["GRPO: 900/1000", "GRPO: 910/1000  (180 s left)"]
