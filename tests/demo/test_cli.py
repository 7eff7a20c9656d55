"""The command line: versions, help, and errors that name the number and the limit, all without starting anything."""

from __future__ import annotations

import subprocess
import sys

import pytest

from crdtcache import __version__
from crdtcache.cli import main


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"crdtcache {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: command"),
        (["dance"], "invalid choice: 'dance'"),
        (["demo", "--nodes", "two"], "invalid int value: 'two'"),
        (["demo", "--surprise"], "unrecognized arguments: --surprise"),
    ],
)
def test_a_wrong_command_line_is_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seconds", "3"], "3 seconds: between 15 and 3600"),
        (["--seconds", "nan"], "nan seconds: between 15 and 3600"),
        (["--regions", "eu"], "1 region: at least 2"),
        (["--regions", "eu,,us"], "region ''"),
        (["--nodes", "0"], "0 services per region: at least 1"),
        (["--nodes", "9"], "27 processes: at most 24"),
    ],
)
def test_a_world_that_cannot_be_is_status_2_with_the_limit(arguments, message, capsys):
    assert main(["demo", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("crdtcache demo: ")
    assert message in captured.err
    assert captured.out == ""


def test_help_tells_the_defaults(capsys):
    with pytest.raises(SystemExit) as end:
        main(["demo", "--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    for option in ("--seconds", "--regions", "--nodes", "--seed", "--json", "--keep-logs", "eu,us,ap", "55"):
        assert option in out


def test_the_module_runs_too_and_loads_no_trio_for_it():
    code = """if True:
        import sys
        from crdtcache.cli import main
        try:
            main(["--version"])
        except SystemExit:
            print("trio" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == [f"crdtcache {__version__}", "False"]
    done = subprocess.run(
        [sys.executable, "-m", "crdtcache", "--version"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == f"crdtcache {__version__}\n"
