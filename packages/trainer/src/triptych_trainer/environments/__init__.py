"""Environments ready to use: any one of Gymnasium that draws itself, and the web pages of MiniWoB++.

Each needs an optional extra: ``pip install triptych-trainer[gymnasium]`` or ``[miniwob]``.
"""
