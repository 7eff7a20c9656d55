"""The report of a run: one file that loads nothing, holds what it should, and is drawn by a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from sim import bugs, faults, plots
from sim.__main__ import main
from sim.plan import Fault, Op, read_plan
from sim.record import Sample, record
from sim.report import page
from sim.scenarios import find
from sim.scenarios.making import make
from sim.world import run

SVG = "{http://www.w3.org/2000/svg}"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def text_of(element):
    return " ".join(" ".join(element.itertext()).split())


@pytest.fixture(scope="module")
def recording():
    return record(find("region-outage").draw(2, None))


@pytest.fixture(scope="module")
def failed():
    with bugs.planted("c2-gap-ignored"):
        recordings = (record(find("lost-middle").draw(seed, None)) for seed in range(20))
        return next(r for r in recordings if r.result.violation is not None)


@pytest.fixture(scope="module")
def rough():
    """More faults than rows, and no process for a while."""
    return record(find("kitchen-sink").draw(0, None))


def test_the_file_is_whole_and_loads_nothing(recording):
    written = page(recording, "python -m sim run region-outage --seed 2")
    tree = ET.fromstring(written)
    assert not re.search(r"https?://|url\(|@import|<script|<link", written.replace("http://www.w3.org/2000/svg", ""))
    assert not [e.tag for e in tree.iter() for name in e.attrib if name.endswith(("href", "src", "srcset"))]
    assert len(written) < 500_000


def test_the_same_run_is_the_same_file():
    plan = find("calm-sea").draw(3, 2)
    assert page(record(plan), "again") == page(record(plan), "again")


def test_it_says_what_ran_and_how_to_repeat_it(recording, tmp_path):
    tree = ET.fromstring(page(recording, "python -m sim run region-outage --seed 2"))
    said = text_of(tree)
    result = recording.result
    for part in ("region-outage seed 2", "No violation", "--seed 2", result.trace, "longest cut 10.0 s", "op put"):
        assert part in said
    titles = [svg.get("aria-label") for svg in tree.iter(f"{SVG}svg")]
    assert [title.split()[0] for title in titles] == ["What", "Keys", "Conflicts,", "Frames"]
    plan = tmp_path / "plan.json"
    plan.write_text(tree.findall(".//pre")[-1].text)
    assert run(read_plan(plan)).trace == result.trace


def test_a_violation_is_told_with_its_reason(failed):
    found = failed.result.violation
    said = text_of(ET.fromstring(page(failed, "again")))
    assert f"Violation of {found.invariant}" in said
    assert f"Why n{found.node} showed that" in said
    assert "The greatest write until then" in said
    assert f"{found.key!r} marked" in said


def test_the_command_line_writes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "calm-sea", "--nodes", "2", "--seed", "1", "--set", "log_records=500"]
    assert main([*arguments, "--html", "run.html", "--plan", "plan.json"]) == 0
    assert "the report is in run.html" in capsys.readouterr().out
    written = (tmp_path / "run.html").read_text()
    assert "python -m sim run calm-sea --seed 1 --nodes 2 --set log_records=500" in written
    assert main(["replay", "plan.json", "--html", "replay.html"]) == 0
    assert "python -m sim replay plan.json" in (tmp_path / "replay.html").read_text()


CUT = faults.cut(((0, 2), (1, 2)), 3_000, 9_000, "one")


@pytest.fixture(scope="module")
def small():
    ops = [Op(4_000_000, 0, "put", "a", "v0"), Op(5_000_000, 2, "put", "a", "v1"), Op(6_000_000, 1, "put", "b", "v2")]
    wrong = [CUT, Fault("crash", 1_000, 2_000, nodes=(1,))]
    return record(make("test", 0, nodes=3, calm_ms=10_000, count=0, ops=ops, faults=wrong))


def tips(drawing):
    return [title.text for title in ET.fromstring(str(drawing)).iter(f"{SVG}title")]


class TestPictures:
    def test_faults_have_their_time_and_place(self, small):
        told = tips(plots.timeline(small))
        assert "one (cut), n0 n1 | n2: 3.000 s to 9.000 s" in told
        assert "crash (crash), n1: 1.000 s to 2.000 s" in told

    def test_keys_behind_are_told_from_when_to_when(self, small):
        told = tips(plots.staleness(small))
        assert any(re.fullmatch(r"n2, 6\.\d+ s to 9\.\d+ s: behind on 1 key", tip) for tip in told)
        assert any(re.fullmatch(r"n1, 5\.\d+ s to 9\.\d+ s: behind on 1 key", tip) for tip in told)
        assert any(re.fullmatch(r"n1, 1\.\d+ s to 2\.\d+ s: no process runs", tip) for tip in told)
        assert "heal, 9.000 s" in told

    def test_who_beat_whom(self, small):
        assert "v1 of n2 at 5.000 s beat v0 of n0 at 4.000 s" in tips(plots.conflicts(small))

    def test_frames_that_carry_a_key(self, small):
        drawing = plots.space_time(small, key="b")
        assert drawing.title.endswith("'b' marked")
        assert any(re.match(r"n[01] to n2, sent 9\.\d+ s, arrived 9\.\d+ s: .*slice .*\bb", t) for t in tips(drawing))
        assert tips(plots.space_time(small, at_s=5.0)) != tips(drawing)

    def test_the_colours_say_more_for_more(self, small):
        assert plots.steps_of(0) == []
        assert plots.steps_of(3) == [(1, 1), (2, 2), (3, 3)]
        steps = plots.steps_of(500)
        assert len(steps) == 7
        assert steps[0][0] == 1
        assert steps[-1][1] == 500
        assert all(a[1] + 1 == b[0] for a, b in pairwise(steps))

    def test_many_nodes_share_rows(self, small):
        machines = tuple(replace(small.result.plan.machines[0], index=i) for i in range(90))
        result = replace(small.result, plan=small.result.plan.but(machines=machines, faults=()))
        samples = [Sample(s.at, (0, 5, *[0] * 87, 2), s.at) for s in small.samples]
        drawing = plots.staleness(replace(small, result=result, samples=samples))
        assert [tip.partition(",")[0] for tip in tips(drawing)] == ["n0 +1", "n88 +1"]
        assert tips(drawing)[0].endswith("behind on 5 keys")

    def test_a_cut_leaves_its_sides(self):
        assert faults.sides(CUT, 3) == [[0, 1], [2]]
        assert faults.sides(None, 2) == [[0, 1]]
        assert faults.sides(faults.cut(((0, 1),), 0, 1), 3) == [[0, 1, 2]]


MEASURE = """
<script>
const wrong = [];
for (const svg of document.querySelectorAll("svg")) {
  const page = svg.getBoundingClientRect();
  const shapes = svg.querySelectorAll("rect, circle, path, text");
  if (!page.width || !page.height || shapes.length < 8) wrong.push("empty: " + svg.getAttribute("aria-label"));
  for (const shape of shapes) {
    const box = shape.getBoundingClientRect();
    const flat = shape.tagName == "path" ? !(box.width || box.height) : !(box.width && box.height);
    if (flat) wrong.push("no size: " + shape.outerHTML);
    const out = box.left < page.left - 1 || box.right > page.right + 1 || box.bottom > page.bottom + 1;
    if (out) wrong.push("outside: " + shape.outerHTML);
  }
}
const wide = document.documentElement.scrollWidth > innerWidth;
document.body.innerHTML = "<pre id='measured'></pre>";
if (wide) wrong.push("wider than the window");
document.querySelector("#measured").textContent = [...wrong, "measured"].join("\\n");
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: the pictures are not measured in a browser")
@pytest.mark.parametrize("which", ["recording", "failed", "rough"])
def test_a_browser_draws_all_of_it(which, request, tmp_path):
    written = page(request.getfixturevalue(which), "again")
    path = tmp_path / "page.html"
    path.write_text(written.replace("</body>", MEASURE + "</body>"))
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path}/user",
    ]
    done = subprocess.run(
        [CHROMIUM, *flags, "--window-size=1100,900", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    measured = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout, re.DOTALL)
    assert measured is not None, done.stderr
    assert measured[1].strip() == "measured"
    assert "CONSOLE" not in done.stderr
