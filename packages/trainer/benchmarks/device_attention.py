"""Attention of one packed row by four ways, forward and backward: ``python device_attention.py [--cpu-tiny]``.

    masked     rectangles under masks, several branches at a time (`attention`)
    segments   two calls of torch's flash kernels without a mask (`varlen_attention`)
    gathered   TRL's way: the keys of each path from the prompt's first token to a branch's last are gathered, and one
               causal call attends all paths
    flex       FlexAttention, compiled, with a block mask

One layer of Qwen2.5-VL-3B (16 query heads, 2 key heads, 128 features), one prompt of P tokens, G branches of C. Every
way gets the same states; the last column is its mean difference from `masked`, relative to the mean value, of the
output and of all gradients. A way that fails is printed with its reason. The program ends with an error where the way
`segments` fails, or differs from `masked` by more than rounding. `scripts/gpu_check.sh` shows lines with RESULT.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from triptych_trainer.forward import GroupBatch
from triptych_trainer.forward.attention import group_shared_attention
from triptych_trainer.forward.layout import Group, packed_layout
from triptych_trainer.forward.segments import segments_of
from triptych_trainer.forward.shared_pass import SharedPass
from triptych_trainer.forward.varlen_attention import attend_segments, segment_calls, varlen_attention
from triptych_trainer.models.families import Family

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 0.02}
"""The greatest mean difference, relative to the mean value."""
Way = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""query `[1, heads, T, d]`, key and value `[1, kv_heads, T, d]` -> `[1, heads, T, d]`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """Sizes of one layer and its row."""

    prefix: int
    group: int
    completion_tokens: int
    heads: int = 16
    kv_heads: int = 2
    width: int = 128

    @property
    def tokens(self) -> int:
        """Tokens of the packed row."""
        return self.prefix + self.group * self.completion_tokens


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each prompt length and way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, nargs="+", default=[1024, 8192, 32768], help="tokens of the prompt")
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--completion-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu-tiny", action="store_true", help="small sizes in float32 on the CPU, to run every line")
    options = parser.parse_args(argv)
    device = torch.device("cpu" if options.cpu_tiny else "cuda")
    cases = [Case(prefix=p, group=options.group, completion_tokens=options.completion_tokens) for p in options.prompts]
    if options.cpu_tiny:
        cases = [Case(prefix=40, group=3, completion_tokens=8, heads=4, width=16)]
    print(f"\nAttention of one layer, {'float32' if options.cpu_tiny else 'bfloat16'} on {device}:\n")
    print("| P | G | C | way | forward ms | forward + backward ms | peak MB | differs from masked |")
    print("|---|---|---|---|---|---|---|---|")
    wrong = [
        f"prompts of {case.prefix} tokens: {failure}"
        for case in cases
        for failure in table(case, device=device, rounds=options.rounds)
    ]
    if wrong:
        raise SystemExit("\n".join(wrong))


def table(case: Case, *, device: torch.device, rounds: int) -> list[str]:
    """Print the lines of one case; returns what failed: a way other than FlexAttention, or the comparison of segments.

    A way for which the memory does not suffice is no failure, if another one is left to compare with.
    """
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    generator = torch.Generator(device).manual_seed(0)
    shapes = [(1, number, case.tokens, case.width) for number in (case.heads, case.kv_heads, case.kv_heads, case.heads)]
    *states, grad = (torch.randn(shape, generator=generator, device=device, dtype=dtype) for shape in shapes)
    reference: list[torch.Tensor] | None = None
    took: dict[str, float] = {}
    failed: list[str] = []
    compared = False
    ways: list[tuple[str, Callable[[Case, torch.device], Way]]]
    ways = [("masked", masked), ("segments", in_segments), ("gathered", gathered), ("flex", flex)]
    for name, build in ways:
        if name == "flex":  # which compiles for so long that the time may end here
            print_result(case, took)
        begin = f"| {case.prefix} | {case.group} | {case.completion_tokens} | {name} |"
        try:
            way = build(case, device)
            found = results(way, states, grad)  # also compiles
            forward = milliseconds(lambda way=way: way(*states), device=device, rounds=rounds)
            peak = peak_megabytes(lambda way=way: results(way, states, grad), device=device)
            both = milliseconds(lambda way=way: results(way, states, grad), device=device, rounds=rounds)
        except Exception as error:
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
            print(f"{begin} {said} | | | |", flush=True)
            if name == "segments" or not (name == "flex" or isinstance(error, torch.OutOfMemoryError)):
                failed.append(f"{name}: {said}")
            continue
        is_first, reference = reference is None, reference or found
        differs = max(
            float((a - b).abs().float().mean() / b.abs().float().mean()) for a, b in zip(found, reference, strict=True)
        )
        took[name] = both
        if not is_first and name != "flex" and "segments" in took:
            compared = True
            if differs >= TOLERANCES[dtype]:
                failed.append(f"{name} differs from {next(iter(took))} by {differs:.1e}")
        shown = "-" if peak is None else f"{peak:.0f}"
        print(f"{begin} {forward:.2f} | {both:.2f} | {shown} | {differs:.1e} |", flush=True)
    if "flex" in took:
        print_result(case, {"flex": took["flex"]})
    return failed if compared or failed else ["segments were compared with nothing"]


def print_result(case: Case, took: dict[str, float]) -> None:
    """Print the milliseconds of some ways for the table of `scripts/gpu_check.sh`."""
    shown = ", ".join(f"{name} {milliseconds:.2f} ms" for name, milliseconds in took.items())
    print(f"RESULT attention of one layer, forward and backward, P = {case.prefix}: {shown}", flush=True)


def in_segments(case: Case, device: torch.device) -> Way:
    """Two calls without a mask."""
    calls = segment_calls([group_of(case)], branches_only=False, window=None, device=device)
    return lambda query, key, value: varlen_attention(query, key, value, calls, scaling=None)


def masked(case: Case, device: torch.device) -> Way:
    """Rectangles under masks, as every device computes them that has no kernel for segments."""
    branches = [[1] * case.completion_tokens] * case.group
    batch = GroupBatch.build([[1] * (case.prefix + 1)], completions=[branches])
    layout = packed_layout(batch)
    shared = SharedPass(
        family=Family(),
        vision_model=torch.nn.Module(),
        batch=batch,
        layout=layout,
        ids=layout.ids.unsqueeze(0),
        places=[],
        features=None,
        attention="masked",
    )
    module = torch.nn.Module()
    return lambda query, key, value: group_shared_attention(module, query, key, value, None, triptych_pass=shared)[
        0
    ].transpose(1, 2)


def flex(case: Case, device: torch.device) -> Way:
    """FlexAttention; on the CPU without a compiler, which makes it a check of the block mask only."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    own_T = torch.full((case.tokens,), -1, device=device)
    place_T = torch.arange(case.tokens, device=device)
    branch_T = (place_T[case.prefix :] - case.prefix) // case.completion_tokens
    own_T[case.prefix :] = branch_T

    def seen(batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return (key <= query) & ((own_T[key] == -1) | (own_T[key] == own_T[query]))

    mask = create_block_mask(seen, None, None, case.tokens, case.tokens, device=str(device))
    attend = flex_attention if device.type == "cpu" else torch.compile(flex_attention)
    return lambda query, key, value: attend(query, key, value, block_mask=mask, enable_gqa=True)


def gathered(case: Case, device: torch.device) -> Way:
    """One causal call over copies of the prompt's keys for each branch."""
    prompt = torch.arange(case.prefix)
    paths = [prompt]
    for first in range(case.prefix, case.tokens, case.completion_tokens):
        paths += [prompt, torch.arange(first, first + case.completion_tokens)]
    rows = torch.cat(paths).to(device)
    own = [case.completion_tokens] * case.group
    segments = segments_of(
        [case.prefix, *own], [case.prefix, *(case.prefix + length for length in own)], causal=True, device=device
    )

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        keys, values = key.index_select(2, rows), value.index_select(2, rows)
        return attend_segments(query, keys, values, segments, scaling=None)

    return attend


def group_of(case: Case) -> Group:
    """The one group of the row."""
    return Group(start=0, prefix=case.prefix, branches=(case.completion_tokens,) * case.group)


def results(way: Way, states: Sequence[torch.Tensor], grad: torch.Tensor) -> list[torch.Tensor]:
    """The output and the gradients of query, key and value."""
    leaves = [x.detach().requires_grad_() for x in states]
    out = way(leaves[0], leaves[1], leaves[2])
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def milliseconds(call: Callable[[], object], *, device: torch.device, rounds: int) -> float:
    """Median time of a call."""
    found = []
    for _ in range(rounds):
        synchronize(device)
        began = time.perf_counter()
        call()
        synchronize(device)
        found.append(1e3 * (time.perf_counter() - began))
    return statistics.median(found)


def peak_megabytes(call: Callable[[], object], *, device: torch.device) -> float | None:
    """By how much the allocator's peak rises during a call; not known on the CPU."""
    if device.type == "cpu":
        call()
        return None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    synchronize(device)
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def synchronize(device: torch.device) -> None:
    """Wait for what the device was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
