"""The tables of the delineation experiment: one figure a cell, nothing lost."""

import re

import delineation

EDGE = {"f1": 0.9, "mean_ms": -4.2, "sd_ms": 11.0, "detected": 7}
ABSENT = {"f1": 0.0, "mean_ms": None, "sd_ms": None, "detected": 0}
INTERVAL = {"mean": 1.25, "sd": 5.4, "both": 6, "reference": 7}


def results(edge):
    waves = {wave: {"onset": edge, "offset": EDGE} for wave in delineation.WAVES}
    intervals = dict.fromkeys(delineation.UNITS, INTERVAL)
    leads = {"II": waves, "V1": waves}
    return {"macro_f1": {"mean": 0.8}, "waves": waves, "leads": leads, "intervals": intervals, "n_records": 7}


def test_a_cell_holds_one_figure_and_none_where_a_method_gives_no_border():
    text = delineation.tables({"one": results(EDGE), "two": results(ABSENT)})
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith(("| one", "| two"))]
    figures = [cell.strip() for row in rows for cell in row[1:] if not cell[:1].isalpha()]
    assert all(re.fullmatch(r"|–|[+-]?[\d.]+", figure) for figure in figures)
    assert figures.count("0.900") == 3 * (2 + 1) + 2 * 3 * (2 + 1)  # all leads and each lead, both borders or one
    for figure in ("+1.2", "5.4", "6", "7"):
        assert figures.count(figure) == 2 * len(delineation.UNITS)
