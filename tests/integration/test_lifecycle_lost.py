"""Whatever telemetry is lost, and however, the function is served and no wait is long."""

from __future__ import annotations

import pytest

from helpers.lost import LOSSES, assert_the_function_is_unharmed


@pytest.mark.parametrize("loss", LOSSES)
def test_under_invocation(tmp_path, loss):
    """The strategy that awaits every end; tests/system has the others, and a slow processor."""
    assert_the_function_is_unharmed(tmp_path, loss, "invocation")
