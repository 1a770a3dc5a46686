"""The sources the layer is compiled from: taken from the cache or fetched, and always checked."""

from __future__ import annotations

import ast
import hashlib
import sys
import tarfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from layer import fetch
from layer.cache import Cache
from layer.fetch import Source
from layer.problem import BuildError

PACKAGE = Path(__file__).parents[3] / "daemon" / "telemetryd"
CONTENT = b"an archive"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def without_debian(monkeypatch: pytest.MonkeyPatch) -> None:
    """No apt-get: these tests need no network."""
    monkeypatch.setenv("PATH", "")


def source(file: Path, digest: str = DIGEST) -> Source:
    """Zlib, whose upstream is `file`."""
    debian = {"suite": "sid", "package": "zlib", "version": "1"}
    return Source("zlib", "1.3.1", "Zlib", digest, file.as_uri(), digest, debian)


def test_an_archive_is_fetched_once(tmp_path: Path) -> None:
    """What is in the cache needs no network any more."""
    upstream = tmp_path / "upstream"
    upstream.write_bytes(CONTENT)
    cache = Cache(tmp_path / "cache")
    assert fetch.archive(source(upstream), cache).read_bytes() == CONTENT
    upstream.unlink()
    assert fetch.archive(source(upstream), cache).read_bytes() == CONTENT


def test_one_that_is_gone_is_told_in_one_line_with_what_to_do(tmp_path: Path) -> None:
    """What was tried, where to put it, what else to change."""
    cache = Cache(tmp_path / "cache")
    with pytest.raises(BuildError) as caught:
        fetch.archive(source(tmp_path / "gone"), cache)
    told = str(caught.value)
    assert told.startswith("zlib 1.3.1 can't be had (from_debian: no apt-get here; from_upstream: ")
    assert f"put its archive at {cache.archives / DIGEST}" in told
    assert told.endswith("sources.toml")
    assert "\n" not in told


def test_one_that_is_not_what_was_pinned_is_not_used(tmp_path: Path) -> None:
    """Nor is it left in the cache."""
    upstream = tmp_path / "upstream"
    upstream.write_bytes(b"something else")
    cache = Cache(tmp_path / "cache")
    with pytest.raises(BuildError, match=f"instead of {DIGEST}"):
        fetch.archive(source(upstream), cache)
    assert list(cache.archives.iterdir()) == []


def test_every_source_is_pinned_by_its_checksum() -> None:
    """In the list itself, for each place it may come from."""
    for listed in fetch.sources().values():
        assert {len(listed.sha256), len(listed.url_sha256)} == {64}
        assert listed.url.startswith("https://")
        assert set(listed.debian) == {"suite", "package", "version"}


@pytest.mark.parametrize("filters", [True, False], ids=["with filters", "Python 3.11.3"])
def test_an_archive_is_unpacked_by_every_python_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filters: bool
) -> None:
    """Before 3.11.4 `extractall` knows no filters, and refuses to hear of one."""
    (tmp_path / "zlib-1").mkdir()
    (tmp_path / "zlib-1" / "README").write_bytes(CONTENT)
    packed = tmp_path / "zlib.tar"
    with tarfile.open(packed, "w") as tar:
        tar.add(tmp_path / "zlib-1", "zlib-1")
    if not filters:
        whole = tarfile.TarFile.extractall

        def without(self: tarfile.TarFile, path: Path) -> None:
            whole(self, path)

        monkeypatch.delattr(tarfile, "tar_filter", raising=False)
        monkeypatch.setattr(tarfile.TarFile, "extractall", without)
    into = tmp_path / "into"
    into.mkdir()
    assert (fetch.unpack(packed, into) / "README").read_bytes() == CONTENT


def test_no_module_of_the_layer_asks_for_its_file() -> None:
    """Frozen modules have no `__file__`, so they would fail only there."""
    asking = [
        str(path.relative_to(PACKAGE))
        for path in sorted(PACKAGE.rglob("*.py"))
        if any(
            isinstance(node, ast.Name) and node.id == "__file__"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        )
    ]
    assert asking == ["local/sandbox.py"]  # which the layer does not have
