"""The board: aligned, never wider or higher than the terminal, plain without one; the figures it shows."""

from __future__ import annotations

import io
import re

import pytest

from crdtcache.demo.board import Board, View, matrix_lines, render, verdict_lines
from crdtcache.demo.figures import Latencies, ServiceFigures, totals
from crdtcache.demo.regions import World
from crdtcache.demo.verdict import Check

WORLD = World(("eu", "us"), 1)
ANSI = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")


def report(requests, **counts):
    fields = {"hits": 0, "shared": 0, "saved_us": 0, "worked_us": 0, "overwritten": 0, **counts}
    return {"keys": 7, "peers": 1, "digest": "00000000c0ffee00", "counts": {"requests": requests, **fields}}


def view() -> View:
    eu, us = ServiceFigures("eu-1", "eu", pid=4711), ServiceFigures("us-1", "us", pid=4712, state="cut off")
    eu.report(10.0, report(100, hits=50))
    eu.report(12.0, report(180, hits=90, shared=45, saved_us=12_345_000))
    us.report(10.0, report(0))
    latencies = Latencies(WORLD)
    for ms in (41.0, 42.0, 50.0):
        latencies.add("eu-1", "us-1", 1.0, ms)
    news = [f"{n}.0 s  something happened" for n in range(20)]
    return View(12.0, 55.0, "cut", [eu, us], latencies.table(), {"open": 2, "reset": 3}, news)


def test_the_block_shows_everything_in_columns():
    lines = render(view(), 100)
    text = "\n".join(lines)
    head = next(line for line in lines if line.startswith("service"))
    row = next(line for line in lines if line.startswith("eu-1"))
    for name, shown in {"pid": "4711", "req/s": "40.0", "hits": "50.0%", "shared": "25.0%", "saved": "12.35 s"}.items():
        end = head.index(name) + len(name)
        assert row[:end].endswith(shown)
    assert "[CUT]" in text
    assert "00000000c0ffee00" in row
    assert "41.0" not in text  # the p50 of 41, 42, 50
    assert re.search(r"eu .* 42\.0 / 50\.0 +\(40\)", text)
    assert "3 reset" in text
    assert "19.0 s  something happened" in text
    assert "12.0 s  something happened" not in text


@pytest.mark.parametrize("width", [20, 79, 200])
def test_no_line_is_wider_than_the_terminal_and_colour_adds_no_width(width):
    plain, coloured = render(view(), width), render(view(), width, colour=True)
    assert max(map(len, plain)) <= width
    assert [ANSI.sub("", line) for line in coloured] == plain
    assert coloured != plain


def test_a_pair_of_regions_without_a_sample_shows_its_delay_alone():
    assert any(re.search(r"us +- / - +\(44\)", line) for line in matrix_lines(Latencies(WORLD).table()))
    assert len(matrix_lines([])) == 1


def test_live_redraws_in_place_and_gives_the_cursor_back(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "50")
    out = io.StringIO()
    board = Board(out, live=True, colour=True)
    board.show(view())
    first = out.getvalue()
    assert first.startswith("\x1b[?25l")
    height = first.count("\n")
    board.show(view())
    assert out.getvalue()[len(first) :].startswith(f"\x1b[{height}A")
    board.close()
    board.close()
    assert out.getvalue().count("\x1b[?25h") == 1


def test_live_never_draws_more_than_the_screen_holds(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "10")
    out = io.StringIO()
    Board(out, live=True, colour=False).show(view())
    assert out.getvalue().count("\n") == 9


def test_a_low_terminal_loses_the_gaps_first_and_always_has_the_latest_news():
    lines = render(view(), 100, 24)
    assert len(lines) == 24
    assert lines[-1] == "19.0 s  something happened"
    lines = render(view(), 100, 16)
    assert len(lines) == 16
    assert "" not in lines
    assert lines[-1] == "19.0 s  something happened"


def test_plain_tells_each_piece_of_news_once_and_a_summary_now_and_then():
    out = io.StringIO()
    board = Board(out, live=False, colour=False)
    seen = view()
    for seconds in (12.0, 12.3, 14.9, 15.0):
        seen.seconds = seconds
        board.show(seen)
    seen.seconds, seen.phase = 20.0, "quiet"  # the summaries have ended
    board.end(seen, [])
    board.close()
    lines = out.getvalue().splitlines()
    assert sum("something happened" in line for line in lines) == 20
    assert sum("requests/s" in line for line in lines) == 2
    assert "all 2 digests equal" in lines[20]
    assert "\x1b" not in out.getvalue()


def test_equal_digests_of_some_are_not_those_of_all():
    seen = view()
    seen.services.append(ServiceFigures("us-2", "us"))
    assert "2 of 3 have reported" in "\n".join(render(seen))


def test_a_file_gets_plain_lines(tmp_path):
    with (tmp_path / "out").open("w+") as out:
        board = Board.on(out)
        board.end(view(), [Check("cut", True, "nothing crossed", {})])
        board.close()
        out.seek(0)
        text = out.read()
    assert "\x1b" not in text
    assert "everything holds" in text
    assert "write to visible" in text


def test_the_verdict_says_what_does_not_hold():
    lines = verdict_lines([Check("cut", True, "fine", {}), Check("lost", False, "2 lost", {})])
    assert lines[-1].strip() == "does not hold: lost"
    assert re.search(r"ok +cut +fine", lines[1])
    assert re.search(r"FAILED +lost +2 lost", lines[2])


def test_rates_are_recent_and_counts_survive_a_restart():
    figures = ServiceFigures("eu-1", "eu")
    assert figures.rate == 0
    for second in range(11):
        figures.report(float(second), report(100 * second if second < 8 else 700))
    assert figures.rate == 0
    figures.ended("killed")
    assert (figures.keys, figures.pid, figures.rate, figures.state) == (0, 0, 0, "killed")
    figures.report(20.0, report(5))
    assert figures.counts["requests"] == 705
    assert totals([figures]).requests == 705
    assert totals([]).hit_ratio == 0


def test_what_was_written_during_an_outage_counts_as_late():
    world = World(("eu", "us", "ap"), 2)
    latencies = Latencies(world)
    latencies.begin("ap", 10.0)
    latencies.add("ap-1", "eu-1", 9.0, 90.0)  # arrived before
    latencies.add("ap-1", "eu-1", 9.95, 6_000.0)  # in flight when the cut came
    latencies.add("ap-1", "eu-1", 12.0, 5_000.0)
    latencies.add("ap-1", "ap-2", 12.0, 1.0)  # the same side
    latencies.add("eu-1", "us-1", 12.0, 41.0)
    latencies.end("ap", 17.0)
    latencies.add("ap-1", "eu-1", 18.0, 91.0)
    latencies.begin("us-2", 20.0)
    latencies.add("eu-1", "us-2", 21.0, 3_000.0)
    latencies.add("eu-1", "us-1", 21.0, 42.0)
    latencies.end("us-2", 25.0)
    latencies.end("us-2", 26.0)
    rows = {(each.source, each.target): each for each in latencies.table()}
    assert len(rows) == 9
    assert (rows["ap", "eu"].samples, rows["ap", "eu"].late, rows["ap", "eu"].p99) == (2, 2, 91.0)
    assert (rows["ap", "ap"].samples, rows["ap", "ap"].late) == (1, 0)
    assert (rows["eu", "us"].samples, rows["eu", "us"].late) == (2, 1)
    assert rows["us", "ap"].p50 is None
