"""Executes the notebooks: `python -m tests.sim.notebooks` writes them again with their pictures, for a commit.

No times are written and the runs are functions of their seeds, so that a notebook whose pictures have not changed does
not change. Needs `pip install -e '.[notebooks]'`.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

TOP = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(TOP.glob("notebooks/*.ipynb"))
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook after a run from top to bottom in a new process. Raises where a cell does."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    NotebookClient(notebook, timeout=60, record_timing=False, resources={"metadata": {"path": TOP}}).execute()
    notebook.metadata = METADATA
    return notebook


if __name__ == "__main__":
    for path in NOTEBOOKS:
        nbformat.write(executed(path), path)
