"""Pictures in cells: the small picture beside the reference shares its axes unless it would stand empty."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from workbench.ui.picture import share_axes

OWN = " On axes of its own."


def drawn(*points, scale="linear"):
    figure = Figure()
    axes = figure.subplots()
    axes.plot(*zip(*points, strict=True), "o")
    axes.axvline(100, label="reaches all of the axes, and is no point")
    axes.set(xlim=(0, 10), ylim=(0, 10), xscale=scale)
    return figure


def test_a_picture_that_fits_takes_the_axes_of_the_reference():
    reference, small = drawn((1, 1)), drawn((2, 2), (3, 3))
    reference.axes[0].set(xlim=(0, 5), ylim=(0, 4))
    assert share_axes(small, reference) == ""
    assert small.axes[0].get_xlim() == (0, 5)
    assert small.axes[0].get_ylim() == (0, 4)


def test_points_off_the_axes_are_counted():
    reference, small = drawn((1, 1)), drawn((2, 2), (3, 3), (4, 9), (float("nan"), 1))
    reference.axes[0].set(ylim=(5, 0))  # upside down
    assert share_axes(small, reference) == " 1 of its points lie outside these axes."
    assert small.axes[0].get_ylim() == (5, 0)


def test_a_picture_most_of_which_would_be_lost_keeps_its_own_axes():
    reference, small = drawn((1, 1)), drawn((2, 2), (8, 8), (9, 9))
    reference.axes[0].set(xlim=(0, 5), ylim=(0, 5))
    assert share_axes(small, reference) == OWN
    assert small.axes[0].get_xlim() == (0, 10)


def test_no_panel_stands_empty():
    reference, small = Figure(), Figure()
    for figure, far in ((reference, 1), (small, 7)):
        left, right = figure.subplots(1, 2)
        left.plot(*np.ones((2, 9)), "o")
        right.plot(far, far, "o")
        left.set(xlim=(0, 5))
        right.set(xlim=(0, 5))
    assert share_axes(small, reference) == OWN


def test_a_picture_that_would_be_a_speck_keeps_its_own_axes():
    """Ten steps of training beside six hundred."""
    reference = drawn((1, 1))
    reference.axes[0].set(xlim=(0, 600))
    assert share_axes(drawn((0, 3), (10, 3)), reference) == OWN
    assert share_axes(drawn((0, 3), (10, 8)), reference) == "", "it is to be told apart by its height"
    reference.axes[0].set(xlim=(0.01, 1000), xscale="log")
    assert share_axes(drawn((1, 3), (1.1, 3), scale="log"), reference) == OWN
    assert share_axes(drawn((1, 3), (10, 3), scale="log"), reference) == ""


@pytest.mark.parametrize("other", [drawn((1, 1), scale="log"), Figure()])
def test_axes_that_are_of_another_kind_are_left(other):
    small = drawn((2, 2))
    assert share_axes(small, other) == ""
    assert small.axes[0].get_xlim() == (0, 10)
