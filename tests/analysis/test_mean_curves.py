"""Curves of several seeds as one."""

import dataclasses

import numpy as np
import pytest
from made_evaluation import made_evaluation, with_variant_result

from hourglass.analysis.evaluation import mean_curve
from hourglass.reports.ablation_figures import learning_figure
from hourglass.training.finished import DevCurves


def test_a_mean_curve_has_the_points_that_all_seeds_have() -> None:
    """Two seeds of a rung of 1,000 tokens that branches off near 400: one validates just after that, one before."""
    late, early = [(602.0, 3.0), (798.0, 2.0), (1002.0, 1.0)], [(401.0, 9.0), (600.0, 5.0), (802.0, 3.0), (998.0, 2.0)]
    assert mean_curve([late, early]) == [(601.0, 4.0), (800.0, 2.5), (1000.0, 1.5)]
    assert mean_curve([late]) == late


@pytest.mark.parametrize("without_first", [0, 1, 2])
def test_learning_is_drawn_where_a_seed_lacks_a_validation(without_first: int) -> None:
    evaluation = made_evaluation()
    seeds = list(evaluation.variants["none"].seeds)
    curve = seeds[without_first].curves.loss
    seeds[without_first] = dataclasses.replace(seeds[without_first], curves=DevCurves(curve[1:], [], []))
    shorter = with_variant_result(evaluation, "none", seeds=seeds)
    (axes,) = learning_figure(shorter).figure.axes
    points = {np.size(line.get_xdata()) for line in axes.get_lines()} - {0}
    assert points == {len(curve), len(curve) - 1}
