"""Host memory stays within its bound however much is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from triptych_data import VisionSpec

CHILD = """
import resource, sys
from pathlib import Path
from triptych_data import ImageLoader, VisionSpec, load_image, read_examples
from triptych_data.resize import resize
import numpy as np

examples = read_examples(sys.argv[1])
spec = eval(sys.argv[2])
resize(np.zeros((64, 64, 3), np.uint8), (28, 28))  # load everything before the measurement
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ImageLoader(threads=4, memory_bytes=150 << 20) as images:
    sizes = {example.key: spec.targets(images.sizes(example)).sizes for example in examples}
    for example in examples:
        images.prefetch(example, sizes=sizes[example.key])
    for example in examples:
        for pixels in images.get_pixels(example, sizes=sizes[example.key]):
            assert pixels.shape[0] * pixels.shape[1] <= spec.max_pixels
    assert images.decodes == 20, images.decodes
    assert images.held_bytes <= 150 << 20
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_peak_memory_is_within_the_bound_and_300_mb(write_jsonl, draw, encode, tmp_path):
    """20 pictures of 12 MP are 720 MB decoded; four threads and a bound of 150 MB are to see them one by one."""
    data = encode(draw(40, 30).resize((4000, 3000)), "JPEG", quality=60)
    for index in range(20):
        (tmp_path / f"{index}.jpg").write_bytes(data)
    rows = [{"prompt": "<image>" * 4, "images": [f"{4 * row + k}.jpg" for k in range(4)]} for row in range(5)]
    path = write_jsonl(rows)
    spec = VisionSpec.from_processor(Qwen2VLImageProcessorPil())
    words = [sys.executable, "-c", CHILD, str(path), repr(spec)]
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) <= 150 + 300
