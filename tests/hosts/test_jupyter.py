"""A Jupyter kernel: its cells run inside an asyncio loop, are run twice, are interrupted, and share a node."""

from __future__ import annotations

import nbformat
from nbclient import NotebookClient

from crdtcache import Node
from tests.hosts.stage import until

CELLS = """
import os, signal, time, warnings
from crdtcache import Node
warnings.filterwarnings("error", module="crdtcache")
---
cache = Node(PEERS, listen="127.0.0.1:0", name="notebook").start()
await cache.aready()
---
cache["cell"] = cache["outside"] + 1
cache
---
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)
except KeyboardInterrupt:
    print(cache.running)
---
async with Node([cache.status()["address"]], listen="127.0.0.1:0") as other:
    print(await other.aready(), other["cell"])
---
await cache.aclose()
print(cache.running, cache["cell"])
"""


def test_a_node_lives_across_cells():
    with Node(listen="127.0.0.1:0") as outside:
        outside["outside"] = 1
        first, start, *rest = CELLS.replace("PEERS", repr(outside.status()["address"])).split("---\n")
        notebook = nbformat.v4.new_notebook()
        # A cell may be run twice: the node of before stays, and its name goes to the new one.
        notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in (first, start, start, *rest)]
        NotebookClient(notebook, timeout=60, record_timing=False).execute()
        shown, *said = notebook.cells[3:]
        assert "text/html" in shown.outputs[0]["data"]
        assert [cell.outputs[0]["text"] for cell in said] == ["True\n", "True 2\n", "False 2\n"]
        until(lambda: outside.get("cell") == 2)
