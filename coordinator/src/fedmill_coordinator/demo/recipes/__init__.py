# SPDX-License-Identifier: Apache-2.0
"""Recipes: how a folder of recordings becomes plants. One file for each format."""

from collections.abc import Callable
from pathlib import Path

from fedmill_coordinator.demo.recipes import cmapss, cwru, rig, tep
from fedmill_coordinator.demo.recipes.plan import Plan, Plant
from fedmill_shared.errors import DataError

__all__ = ["Plan", "Plant", "plan_for"]

RECIPES: dict[str, tuple[Callable[[Path], bool], Callable[[Path, int], Plan]]] = {
    "cmapss": (cmapss.recognises, cmapss.plan),
    "cwru": (cwru.recognises, cwru.plan),
    "tep": (tep.recognises, tep.plan),
}


def plan_for(data: Path | None, seed: int) -> tuple[str, Plan]:
    """Name of the recipe and the plan for the recordings in ``data``; without any, the rig.

    Raises:
        DataError: the folder is missing, or in no format that a recipe knows.
    """
    if data is None:
        return "rig", rig.plan(seed)
    if not data.is_dir():
        raise DataError(f"{data}: no such folder", remedy="give the folder of the recordings")
    for name, (recognises, plan) in RECIPES.items():
        if recognises(data):
            return name, plan(data, seed)
    raise DataError(
        f"{data}: no recordings in a format that the demo knows",
        remedy="C-MAPSS (train_*.txt and test_*.txt), CWRU (*.mat) or TEP (dNN.dat), also .gz",
    )
