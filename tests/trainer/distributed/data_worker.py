"""One rank that reads a data set: python data_worker.py <data> <on_bad> <result.json>, told its place by torchrun."""

import json
import sys
from pathlib import Path

import torch.distributed as dist
from accelerate import PartialState
from triptych_data import recall
from triptych_data.checked import RowCheck
from triptych_data.errors import DataError
from triptych_data.options import DataOptions
from triptych_data.seen_headers import SeenHeaders
from triptych_trainer.commands.read_files import read_files


def main(data: str, on_bad: str, result: str) -> None:
    """Read as ``train`` does, and write what this rank looked at and what it got."""
    PartialState(cpu=True)
    rank = dist.get_rank()
    looks = {"headers": 0, "checked": 0, "saved": 0}
    read, save = SeenHeaders._read, recall.save

    def counted(self, source):
        looks["headers"] += 1
        return read(self, source)

    def counted_save(*given):
        looks["saved"] += 1
        return save(*given)

    def row_check(example, sizes):
        looks["checked"] += 1
        if example.answer == "none":
            raise DataError("no such answer", source=example.source, remedy="drop the row")

    SeenHeaders._read, recall.save = counted, counted_save
    seen = SeenHeaders()
    options = DataOptions(data=[data], on_bad=on_bad, max_bad=1)
    try:
        examples = read_files(
            [data], [None], options, given={}, seen=seen, row_check=RowCheck(look=row_check, name=""), rank=rank
        )
    except DataError as error:
        found = {"error": str(error)}
    else:
        read = [[e.source, e.key, e.answer, [seen.size(image) for image in e.images]] for e in examples]
        found = {"rows": read, "digest": examples.fingerprint, "images": examples.checked.num_images}
    Path(f"{result}.{rank}").write_text(json.dumps({**looks, **found}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
