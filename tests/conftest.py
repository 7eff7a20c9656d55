"""What every test gets: the hypothesis profiles.

`dev` is quick and random, `ci` (chosen by the variable CI) larger and derandomized, so that a red run can be
repeated anywhere, and `deep` is for a night by hand: HYPOTHESIS_PROFILE=deep python -m pytest.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# No deadline: the machine is shared, and a test that asserts times asserts the neighbours. Likewise "too slow".
_SHARED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}

settings.register_profile("dev", max_examples=50, **_SHARED)
settings.register_profile("ci", max_examples=200, derandomize=True, **_SHARED)
settings.register_profile("deep", max_examples=10_000, **_SHARED)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))
