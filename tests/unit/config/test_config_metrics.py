"""`metrics.listen`: what is an address, and where metrics are served unless it says so."""

import pytest

from telemetryd.config import Config, Metrics, effective_metrics, load, parse_address
from telemetryd.errors import ConfigError

ADDRESSES = {
    "127.0.0.1:9464": ("127.0.0.1", 9464),
    "localhost:0": ("localhost", 0),
    "[::1]:65535": ("::1", 65535),
    "0.0.0.0:1": ("0.0.0.0", 1),
}
OTHERS = (
    "9464", ":9464", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:-1", "127.0.0.1:65536",
    "::1:9464", "[127.0.0.1]:9464", "[::1]9464", "a b:1", "a\n:1", "http://127.0.0.1:9464",
    "127.0.0.1:٣",
)  # fmt: skip


@pytest.mark.parametrize(("text", "parts"), ADDRESSES.items())
def test_an_address(text: str, parts: tuple[str, int]) -> None:
    assert parse_address(text) == parts
    assert (
        load({"TELEMETRYD_METRICS__LISTEN": text}, default_paths=()).config.metrics.listen == text
    )


@pytest.mark.parametrize("text", OTHERS)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    assert parse_address(text) is None
    with pytest.raises(ConfigError) as caught:
        load({"TELEMETRYD_METRICS__LISTEN": text}, default_paths=())
    (problem,) = caught.value.problems
    assert "metrics.listen" in problem
    assert "127.0.0.1:9464" in problem


def test_on_in_listen_off_in_lambda_and_as_it_is_set() -> None:
    unset = load({}, default_paths=()).config
    assert effective_metrics(unset, "listen") == "127.0.0.1:9464"
    assert effective_metrics(unset, "lambda") == ""
    for text in ("", "127.0.0.1:0"):
        chosen = load({"TELEMETRYD_METRICS__LISTEN": text}, default_paths=()).config
        assert effective_metrics(chosen, "listen") == effective_metrics(chosen, "lambda") == text


def test_the_default_is_no_setting() -> None:
    assert Config().metrics == Metrics() == Metrics(listen=None)
