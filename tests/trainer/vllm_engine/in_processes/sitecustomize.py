"""Read by Python when a process begins: declares the two operators that torchvision's wheel brings for CUDA only.

torchvision registers a shape rule for them when it is imported, which fails beside a torch that was built for CPUs.
"""

import importlib.util
from pathlib import Path

BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
found = importlib.util.find_spec("torchvision")

if found is not None and found.origin is not None:
    rules = Path(found.origin).with_name("_meta_registrations.py").read_text(encoding="utf-8")
    if "library.define" not in rules:  # else somebody has mended this torchvision by hand
        import torch

        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                torch.library.define(f"torchvision::{name}", BOXES)
