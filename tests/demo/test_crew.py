"""Child processes over pipes: answers, reports, a kill, an end in order, and nothing left behind."""

from __future__ import annotations

import os
import sys

import pytest
import trio

from crdtcache.demo.crew import ChildGone, Crew
from crdtcache.demo.lines import MAX_LINE, pack_line, split_lines, unpack_line

RELAY = "crdtcache.demo.relay"


class Notes:
    def __init__(self):
        self.heard, self.died = [], []

    def crew(self, nursery, tmp_path):
        return Crew(
            nursery,
            tmp_path,
            lambda child, fields: self.heard.append(fields),
            lambda child: self.died.append(child.name),
        )


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def eventually(true):
    """Wait until `true()` is."""
    with trio.fail_after(10):
        while not true():  # noqa: ASYNC110 - what is waited for happens in another process
            await trio.sleep(0.01)


async def test_ask_answers_and_what_is_said_unasked_is_heard(nursery, tmp_path):
    notes = Notes()
    crew = notes.crew(nursery, tmp_path)
    child = await crew.launch("relay", RELAY)
    answer = await child.ask("open", services={"eu-1": "eu"}, delays=[["eu", "eu", 0]])
    assert list(answer["ports"]) == ["eu-1"]
    await eventually(lambda: notes.heard)
    assert notes.heard[0]["counts"]["open"] == 0
    await crew.close()
    assert child.process.returncode == 0
    assert notes.died == []


async def test_many_may_speak_at_once_and_a_cancelled_one_does_not_garble_the_rest(nursery, tmp_path):
    crew = Notes().crew(nursery, tmp_path)
    child = await crew.launch("relay", RELAY)
    await child.ask("open", services={"eu-1": "eu"}, delays=[])
    long = "eu-1" * 50_000  # more than the pipe holds
    answers = []

    async def ask():
        answers.append(await child.ask("gone", node=long))

    async with trio.open_nursery() as speakers:
        for _ in range(5):
            speakers.start_soon(ask)
    assert len(answers) == 5
    with trio.move_on_after(0.001):
        await child.ask("gone", node=long)
    assert (await child.ask("heal"))["at"] > 0
    await crew.close()


async def test_a_killed_child_is_gone_at_once_and_expected_to_be(nursery, tmp_path):
    notes = Notes()
    crew = notes.crew(nursery, tmp_path)
    child = await crew.launch("relay", RELAY)
    await child.ask("open", services={}, delays=[])
    await crew.kill("relay")
    assert not alive(child.process.pid)
    assert notes.died == []
    with pytest.raises(ChildGone, match="relay"):
        await child.ask("heal")
    await crew.close()


async def test_who_ends_by_mistake_is_reported_with_its_last_words(nursery, tmp_path):
    notes = Notes()
    crew = notes.crew(nursery, tmp_path)
    child = await crew.launch("relay", RELAY)
    with pytest.raises(ChildGone, match=r"relay ended, asked to fly(.|\n)*no command 'fly'"):
        await child.ask("fly")
    await eventually(lambda: notes.died)
    await crew.close()


async def test_who_does_not_answer_in_time_is_given_up(nursery, tmp_path):
    crew = Notes().crew(nursery, tmp_path)
    child = await crew.launch("relay", RELAY)
    with pytest.raises(ChildGone, match="did not answer in 0"):
        await child.ask("open", services={}, delays=[], within=0)
    await crew.close()


async def test_children_end_when_their_conductor_is_killed(tmp_path):
    """A conductor that gets SIGKILL cannot end anybody: its children see the closed pipe."""
    conductor = await trio.lowlevel.open_process(
        [
            sys.executable,
            "-c",
            f"""if True:
                import pathlib, trio
                from crdtcache.demo.crew import Crew
                async def main():
                    async with trio.open_nursery() as nursery:
                        crew = Crew(nursery, pathlib.Path({str(tmp_path)!r}), lambda *heard: None, id)
                        child = await crew.launch("relay", {RELAY!r})
                        await child.ask("open", services={{}}, delays=[])
                        print(child.process.pid, flush=True)
                        await trio.sleep_forever()
                trio.run(main)
            """,
        ],
        stdout=-1,
    )
    with trio.fail_after(20):
        pid = int((await conductor.stdout.receive_some()).split()[0])
        assert alive(pid)
        conductor.kill()
        await conductor.wait()
        await eventually(lambda: not alive(pid))
        await conductor.stdout.aclose()


def test_lines_come_whole_however_the_bytes_are_cut():
    sent = [{"do": "cut", "region": "ap"}, {"text": "a\nb"}, {"n": [1, None, True]}]
    stream = b"".join(map(pack_line, sent))
    for size in (1, 7, len(stream)):
        buffer, lines = bytearray(), []
        for start in range(0, len(stream), size):
            lines += split_lines(buffer, stream[start : start + size])
        assert [unpack_line(line) for line in lines] == sent
        assert not buffer


def test_a_line_without_end_and_one_that_is_no_object_are_refused():
    with pytest.raises(ValueError, match=str(MAX_LINE)):
        split_lines(bytearray(MAX_LINE), b"x")
    with pytest.raises(ValueError, match="not an object"):
        unpack_line(b"[1]")


async def test_a_crew_can_be_closed_when_its_nursery_is_already_cancelled(tmp_path):
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            crew = Notes().crew(nursery, tmp_path)
            child = await crew.launch("relay", RELAY)
            try:
                nursery.cancel_scope.cancel()
                await trio.sleep_forever()
            finally:
                await crew.close()
    assert child.process.returncode is not None
