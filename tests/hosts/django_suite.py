"""Django's own cache tests against the backend: `python -m tests.hosts.django_suite DJANGO_SDIST/tests`.

Its backend tests are a mixin for whatever backend `CACHES` names, its middleware tests say locmem and are told another
one here. What is left out stands in `LEFT_OUT` with its reason, and is run too: one that passes has no reason left.
"""

from __future__ import annotations

import sys
import unittest

BACKEND = "crdtcache.contrib.django.CrdtCache"
ALONE = "crdtcache:///django-tests?listen=none"  # neither called nor calling: the machine may have other nodes

LEFT_OUT = {
    "test_data_types": "pickle: stores a function and a class",
    "test_cache_read_for_model_instance": "pickle: stores a model instance",
    "test_cache_write_for_model_instance_with_deferred": "pickle: stores a query set",
    "test_cache_read_for_model_instance_with_deferred": "pickle: stores a query set",
    "test_add_fail_on_pickleerror": "pickle: wants a PickleError where EncodeError is raised",
    "test_set_fail_on_pickleerror": "pickle: wants a PickleError where EncodeError is raised",
}


def configured() -> None:
    """Django, with a database in memory and this backend alone."""
    import django
    from django.conf import settings

    settings.configure(
        CACHES={"default": {"BACKEND": BACKEND, "LOCATION": ALONE}},
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        INSTALLED_APPS=["cache"],
        LANGUAGE_CODE="en",
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
        SECRET_KEY="tests only",
        USE_TZ=False,
    )
    django.setup()


def suite() -> unittest.TestSuite:
    """Their classes, with our backend."""
    from cache import tests as theirs
    from django.test import TestCase, override_settings

    def ours(**caches: dict[str, object]) -> override_settings:
        return override_settings(CACHES={name: {"BACKEND": BACKEND, **more} for name, more in caches.items()})

    # The same that Django's own Redis backend leaves out: another measure of "full".
    settings = theirs.caches_setting_for_tests(BACKEND=BACKEND, LOCATION=ALONE, exclude={"cull", "zero_cull"})

    @override_settings(CACHES=settings)
    class Backend(theirs.BaseCacheTests, TestCase):
        incr_decr_type_error = TypeError

    one = {"LOCATION": ALONE}
    other = {"LOCATION": ALONE.replace("tests", "others"), "TIMEOUT": "1"}

    @ours(default=one)
    class Translated(theirs.CacheI18nTest):
        pass

    @ours(default={**one, "KEY_PREFIX": "cacheprefix"})
    class Prefixed(theirs.PrefixedCacheI18nTest):
        pass

    @ours(default={**one, "KEY_PREFIX": ""}, other=other)
    class Middleware(theirs.CacheMiddlewareTest):
        pass

    @ours(default={**one, "KEY_PREFIX": "cacheprefix"})
    class Templates(theirs.TestWithTemplateResponse):
        pass

    load = unittest.defaultTestLoader.loadTestsFromTestCase
    return unittest.TestSuite(map(load, (Backend, Translated, Prefixed, Middleware, Templates)))


def main(tests: str) -> int:
    sys.path.insert(0, tests)
    configured()
    from django.test.runner import DiscoverRunner

    runner = DiscoverRunner(verbosity=1)
    runner.setup_test_environment()
    databases = runner.setup_databases()
    result = unittest.TextTestRunner(verbosity=0).run(suite())
    runner.teardown_databases(databases)
    failed = {case.id().rpartition(".")[2].split()[0] for case, _ in [*result.failures, *result.errors]}
    print(f"{result.testsRun} run, unexpected: {sorted(failed - set(LEFT_OUT))}")
    print(f"left out and passing: {sorted(set(LEFT_OUT) - failed)}")
    return int(failed != set(LEFT_OUT))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
