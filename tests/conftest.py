"""How hypothesis draws in every test: the same examples in each run, or new ones when `TRIPTYCH_FUZZ` is 1."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "ci",
    deadline=None,  # a busy machine is no failure
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("fuzz", settings.get_profile("ci"), derandomize=False, max_examples=2_000)
settings.load_profile("fuzz" if os.environ.get("TRIPTYCH_FUZZ") == "1" else "ci")
