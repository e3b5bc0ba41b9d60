"""The memory that is free on a machine, and within the limit of a container."""

import pytest
from triptych_trainer.forecast.room import free_memory, left_by_vllm
from trl import GRPOConfig

MEMINFO = "MemTotal: 8000 kB\nMemFree: 1000 kB\nMemAvailable: 5000 kB\n"


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max", 5000 * 1024), ("4096000", 4096000 - (1000000 - 300000)), ("500000", 0), (None, 5000 * 1024)],
)
def test_the_less_of_the_machine_and_the_container(limit, expected, tmp_path):
    (tmp_path / "meminfo").write_text(MEMINFO)
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text("1000000\n")
        (tmp_path / "memory.stat").write_text("anon 700000\ninactive_file 300000\n")
    assert free_memory(meminfo=tmp_path / "meminfo", cgroup=tmp_path) == expected


def test_a_system_that_does_not_say(tmp_path):
    assert free_memory(meminfo=tmp_path / "meminfo", cgroup=tmp_path) is None


@pytest.mark.parametrize(
    ("options", "left"),
    [({}, 80), ({"use_vllm": True, "vllm_mode": "server"}, 80), ({"use_vllm": True, "vllm_mode": "colocate"}, 52)],
)
def test_vllm_keeps_its_share_where_it_samples_in_the_same_process(options, left, tmp_path):
    args = GRPOConfig(tmp_path, bf16=False, use_cpu=True, vllm_gpu_memory_utilization=0.35, **options)
    assert left_by_vllm(args, 80) == left
