"""Every notebook runs from top to bottom, and was committed with its pictures."""

from __future__ import annotations

import pytest

pytest.importorskip("nbclient", reason="needs pip install -e '.[notebooks]'")
pytest.importorskip("ipykernel", reason="needs pip install -e '.[notebooks]'")

import nbformat

from tests.sim.notebooks import NOTEBOOKS, executed

AGAIN = "the committed notebook is an old one: python -m tests.sim.notebooks"


def shown(notebook):
    """What each cell of code shows, by kinds."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [(cell.source, [sorted(out.get("data", [out.output_type])) for out in cell.outputs]) for cell in cells]


def pictures(notebook):
    outputs = [out.get("data", {}) for cell in notebook.cells for out in cell.get("outputs", ())]
    return [kinds["image/svg+xml"] for kinds in outputs if "image/svg+xml" in kinds]


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["split_and_heal"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_was_committed_with_its_pictures(path):
    committed = nbformat.read(path, as_version=4)
    nbformat.validate(committed)
    assert path.stat().st_size < 1_000_000
    again = executed(path)
    assert shown(committed) == shown(again), AGAIN
    assert len(pictures(committed)) == len(pictures(again)) >= 4
    assert all(picture.startswith("<svg") and "<rect" in picture for picture in pictures(committed))
