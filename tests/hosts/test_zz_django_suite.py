"""Django's own cache tests hold for the backend, but for those that ask for pickle. The last file: it waits."""

from __future__ import annotations

import re

from tests.hosts.django_suite import LEFT_OUT


def test_djangos_own_cache_tests(django_suite):
    code, output = django_suite()
    assert code == 0, output
    [run] = re.findall(r"^Ran (\d+) tests", output, re.MULTILINE)
    assert int(run) >= 85, output
    assert all(reason.startswith("pickle: ") for reason in LEFT_OUT.values())
