from xml.etree import ElementTree

import pytest
from triptych_trainer.report.curves import Panel, Series, panel_html
from triptych_trainer.report.summary import Curve


def panel(curves, **changes):
    series = [Series(label=c.name, curve=c, colour=k, style=c.mode) for k, c in enumerate(curves)]
    return Panel(key="x", title="A < B", explanation="why & how", series=series, **changes)


def curve(steps, values, *, mode="train", **band):
    return Curve(name="<acc>", mode=mode, steps=steps, values=values, **band)


def parsed(html):
    return ElementTree.fromstring(html)


def points(figure):
    line = next(node for node in figure.iter("polyline"))
    return [tuple(float(part) for part in pair.split(",")) for pair in line.attrib["points"].split()]


def test_higher_values_are_drawn_higher_and_later_steps_further_right():
    (x1, y1), (x2, y2), (x3, y3) = points(parsed(panel_html(panel([curve([1, 2, 5], [0.0, 1.0, 0.5])]))))
    assert x1 < x2 < x3
    assert (x3 - x1) / (x2 - x1) == pytest.approx(4, rel=0.01)
    assert y2 < y3 < y1


def test_the_figure_is_well_formed_and_escaped():
    html = panel_html(panel([curve([1, 2], [0, 1], low=[0, 0], high=[1, 2]), curve([2], [3], mode="eval")]))
    figure = parsed(html)
    assert figure.find("figcaption/h3").text == "A < B"
    assert "<acc>" in figure.find("svg").attrib["aria-label"]
    assert len(list(figure.iter("polygon"))) == 1
    assert len(list(figure.iter("circle"))) == 1


def test_the_table_holds_the_numbers_and_the_last_step():
    figure = parsed(panel_html(panel([curve(list(range(1, 301)), [k / 300 for k in range(1, 301)])])))
    rows = [row.find("th").text for row in figure.find("details").iter("tbody").__next__()]
    assert len(rows) <= 61
    assert (rows[0], rows[-1]) == ("1", "300")
    assert figure.find("details//caption").text == "A < B by step, every 5th"


def test_one_step_is_a_dot_in_the_middle():
    figure = parsed(panel_html(panel([curve([4], [0.5])])))
    assert len(list(figure.iter("circle"))) == 1
