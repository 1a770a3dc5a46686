"""For all tests: no example of a property has to be fast."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):  # what judges Dockerfiles and templates has no properties
    from hypothesis import HealthCheck, settings

    # By default an example fails that takes more than 200 ms, as it does on a busy machine.
    settings.register_profile(
        "unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("unhurried")
