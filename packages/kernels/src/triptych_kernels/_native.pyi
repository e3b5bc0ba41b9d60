from types import ModuleType

cpu: ModuleType
emulator: ModuleType
cuda: ModuleType
no_cuda_reason: str

def place_runs(index: int, num_rows: int, runs_K3: int, num_runs: int, /) -> int: ...
def group_slots(index: int, num_rows: int, num_features: int, /) -> None: ...
def ask_for_huge_pages(address: int, num_bytes: int, /) -> None: ...
