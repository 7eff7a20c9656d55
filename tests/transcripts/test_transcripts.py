"""Each transcript in this folder is what happens today.

`REWRITE=1 pytest tests/transcripts` writes them anew: the difference is what a change changes, to be
read before it is committed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.transcripts.stage import play

TRANSCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_what_is_written_down_is_what_happens(path: Path) -> None:
    played = play(path.read_text())
    if os.environ.get("REWRITE"):
        path.write_text(played)
    assert played == path.read_text()


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_begins_with_what_it_shows(path: Path) -> None:
    sentence, _, rest = path.read_text().partition("\n\n")
    assert sentence.endswith(".")
    assert rest.startswith("> nodes")
