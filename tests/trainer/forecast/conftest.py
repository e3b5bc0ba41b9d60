"""Runs, skeletons and small data for the planner."""

import sys
from pathlib import Path
from typing import Any

import pytest
from triptych_trainer.forecast.skeleton import Skeleton, build_skeleton
from triptych_trainer.options.arguments import RunConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "families"))  # its two-layer models, as its own tests import them
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def plan_for():
    """(config, skeleton) of a model config under some options of a run."""

    def build(model_config: Any, **options: Any) -> tuple[RunConfig, Skeleton]:
        from planned_runs import run_config

        config = run_config(**options)
        return config, build_skeleton(config, model_config=model_config)

    return build
