"""Which proxy the environment names, and for which hosts it names none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.http_client.messages import HttpError
from telemetryd.http_client.proxies import Proxy, find_proxy, is_exception


def find(environment: dict[str, str], scheme: str = "https", host: str = "a.test") -> Proxy | None:
    return find_proxy(environment, scheme, host, 443)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("environment", "for_https", "for_http"),
    [
        ({}, "", ""),
        ({"HTTPS_PROXY": "http://p:1"}, "p:1", ""),
        ({"https_proxy": "http://p:1"}, "p:1", ""),
        ({"https_proxy": "p:1", "HTTPS_PROXY": "q:2"}, "p:1", ""),
        ({"HTTP_PROXY": "q:2"}, "", "q:2"),
        ({"http_proxy": "q:2"}, "", "q:2"),
        ({"HTTP_PROXY": "q:2", "REQUEST_METHOD": "GET"}, "", ""),
        ({"http_proxy": "q:2", "REQUEST_METHOD": "GET"}, "", "q:2"),
        ({"ALL_PROXY": "r:3"}, "r:3", "r:3"),
        ({"all_proxy": "r:3", "HTTP_PROXY": "q:2"}, "r:3", "q:2"),
        ({"ALL_PROXY": "r:3", "HTTPS_PROXY": ""}, "", "r:3"),
        ({"https_proxy": "", "HTTPS_PROXY": "q:2"}, "", ""),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "*"}, "", ""),
        ({"HTTPS_PROXY": "p:1", "no_proxy": "a.test"}, "", ""),
        ({"HTTPS_PROXY": "p:1", "no_proxy": "", "NO_PROXY": "a.test"}, "p:1", ""),
        ({"FTP_PROXY": "p:1"}, "", ""),
    ],
)
def test_which_variable_counts(environment: dict[str, str], for_https: str, for_http: str) -> None:
    for scheme, wanted in (("https", for_https), ("http", for_http)):
        proxy = find(environment, scheme)
        assert (f"{proxy.host}:{proxy.port}" if proxy else "") == wanted


@pytest.mark.parametrize(
    ("url", "host", "port", "authorization"),
    [
        ("http://p", "p", 80, ""),
        ("p", "p", 80, ""),
        ("p:8080", "p", 8080, ""),
        ("HTTP://p:8080/", "p", 8080, ""),
        ("http://p:/x?y#z", "p", 80, ""),
        ("http://[::1]:3128", "::1", 3128, ""),
        ("http://[::1]", "::1", 80, ""),
        ("http://user:pass@p:1", "p", 1, "Basic dXNlcjpwYXNz"),
        ("user:pass@p:1", "p", 1, "Basic dXNlcjpwYXNz"),
        ("http://user@p:1", "p", 1, "Basic dXNlcjo="),
        ("http://us%65r:p%40ss%:%@p:1", "p", 1, "Basic dXNlcjpwQHNzJTol"),
    ],
)
def test_how_a_proxy_is_written(url: str, host: str, port: int, authorization: str) -> None:
    assert find({"HTTPS_PROXY": f" {url} "}) == Proxy(host, port, authorization, "HTTPS_PROXY")


@pytest.mark.parametrize(
    "url",
    [
        "socks5://user:hunter2@p:1", "https://user:hunter2@p", "http://", "http://user:hunter2@",
        "http://hunter2@p:0", "http://hunter2@p:65536", "http://hunter2@p:x", "http://hunter2@p:1:2",
        "http://hunter2@[::1", "http://hunter2@[::1]x", "http://hunter2@p q", "http://hunter2@é",
        "http://hunter2@p:123456789012345678901234567890", "http://hunter2@p\r\nx",
    ],
)  # fmt: skip
def test_what_is_no_proxy_is_told_without_its_secret(url: str) -> None:
    with pytest.raises(HttpError) as caught:
        find({"HTTPS_PROXY": url})
    assert caught.value.reason == "proxy_invalid"
    assert "HTTPS_PROXY must " in caught.value.detail
    assert "hunter2" not in str(caught.value)


@given(st.text())
def test_no_text_is_a_fault(text: str) -> None:
    try:
        find({"HTTPS_PROXY": text, "NO_PROXY": text})
    except HttpError as error:
        assert error.reason == "proxy_invalid"  # noqa: PT017 - or none at all


def test_a_proxys_name_holds_no_secret() -> None:
    proxy = find({"https_proxy": "http://user:hunter2@p:1"})
    assert proxy is not None
    assert proxy.name == "p:1 (https_proxy)"


@pytest.mark.parametrize(
    ("exceptions", "host", "port", "wanted"),
    [
        ("", "a.test", 443, False),
        ("*", "a.test", 443, True),
        ("b, *", "a.test", 443, True),
        ("a.test", "a.test", 443, True),
        ("A.Test", "a.tesT", 443, True),
        ("a.test", "a.test.", 443, True),
        (".a.test", "a.test", 443, True),
        ("a.test", "x.a.test", 443, True),
        (".a.test", "x.a.test", 443, True),
        ("*.a.test", "x.a.test", 443, True),
        ("a.test", "xa.test", 443, False),
        ("x.a.test", "a.test", 443, False),
        ("b.test a.test", "a.test", 443, True),
        ("b.test,,a.test", "a.test", 443, True),
        ("a.test:443", "a.test", 443, True),
        ("a.test:80", "a.test", 443, False),
        (".", "a.test", 443, False),
        ("169.254.170.2", "169.254.170.2", 80, True),
        ("169.254.170.2:80", "169.254.170.2", 80, True),
        ("169.254.170.2:81", "169.254.170.2", 80, False),
        ("170.2", "169.254.170.2", 80, False),
        ("169.254.0.0/16", "169.254.170.2", 80, True),
        ("169.254.170.3/32", "169.254.170.2", 80, False),
        ("0.0.0.0/0", "169.254.170.2", 80, True),
        ("0.0.0.0/0", "a.test", 80, False),
        ("10.0.0.0/33", "10.0.0.0", 80, False),
        ("10.0.0.0/x", "10.0.0.0", 80, False),
        ("10.0.0.0/", "10.0.0.0", 80, False),
        ("::1", "::1", 80, True),
        ("[::1]", "::1", 80, True),
        ("[::1]:80", "::1", 80, True),
        ("[::1]:81", "::1", 80, False),
        ("0:0:0:0:0:0:0:1", "::1", 80, True),
        ("fd00::/8", "fd00:ec2::23", 80, True),
        ("0.0.0.0/0", "::1", 80, False),
    ],
)
def test_for_which_hosts_there_is_no_proxy(
    exceptions: str, host: str, port: int, wanted: bool
) -> None:
    assert is_exception(exceptions, host, port) is wanted
