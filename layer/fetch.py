"""Gets the archives that sources.toml lists: from the cache, else Debian, else upstream."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import tomllib
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from layer.cache import HERE, Cache
from layer.problem import BuildError

_SECONDS = 120
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True)
class Source:
    """One archive."""

    name: str
    version: str
    license: str
    sha256: str
    url: str
    url_sha256: str
    debian: dict[str, str]


def sources() -> dict[str, Source]:
    """The list, by name."""
    listed = tomllib.loads((HERE / "sources.toml").read_text())
    return {
        name: Source(name=name, url_sha256=entry.pop("url_sha256", entry["sha256"]), **entry)
        for name, entry in listed.items()
    }


def archive(source: Source, cache: Cache) -> Path:
    """The archive in the cache. Raises BuildError when it can be had nowhere."""
    wanted = (source.sha256, source.url_sha256)
    for sha256 in wanted:
        cached = cache.archives / sha256
        if cached.is_file():
            return cached
    tried = []
    for way, sha256 in ((_from_debian, source.sha256), (_from_upstream, source.url_sha256)):
        with tempfile.TemporaryDirectory(dir=cache.directory) as place:
            try:
                found = _checked(way(source, Path(place)), sha256)
            except (BuildError, OSError) as error:
                tried.append(f"{way.__name__.removeprefix('_')}: {error}")
                continue
            return found.rename(cache.archives / sha256)
    raise BuildError(
        f"{source.name} {source.version} can't be had ({'; '.join(tried)}): put its archive at"
        f" {cache.archives / source.sha256}, or name another version in {HERE / 'sources.toml'}"
    )


def _checked(found: Path, sha256: str) -> Path:
    actual = hashlib.sha256(found.read_bytes()).hexdigest()
    if actual != sha256:
        raise BuildError(f"its SHA-256 is {actual} instead of {sha256}")
    return found


def extract(archive: Path, into: Path, kind: str) -> None:
    """Extract a tar archive through the filter `kind`, where there are any: since Python 3.11.4."""
    filters = {"filter": kind} if hasattr(tarfile, "tar_filter") else {}
    with tarfile.open(archive) as tar:
        tar.extractall(into, **filters)  # type: ignore[arg-type]  # noqa: S202 - what was pinned


def member(archive: Path, name: str) -> str:
    """The text of a file in a source archive, named below its one directory. Raises BuildError."""
    with tarfile.open(archive) as tar:
        for entry in tar:
            if entry.isfile() and entry.name.partition("/")[2] == name:
                file = tar.extractfile(entry)
                if file is not None:
                    return file.read().decode(errors="replace")
    raise BuildError(f"{archive} has no {name}")


def unpack(archive: Path, into: Path) -> Path:
    """Unpack a source archive; the one directory that was in it."""
    extract(archive, into, "tar")
    (top,) = [path for path in into.iterdir() if path.is_dir()]
    return top


def _from_upstream(source: Source, place: Path) -> Path:
    found = place / "archive"
    try:
        with (
            urllib.request.urlopen(source.url, timeout=_SECONDS) as answer,  # noqa: S310 - https
            found.open("wb") as file,
        ):
            shutil.copyfileobj(answer, file)
    except urllib.error.URLError as error:
        raise BuildError(f"{source.url}: {error.reason}") from error
    return found


def _from_debian(source: Source, place: Path) -> Path:
    """By `apt-get source`, with lists of its own: the machine's configuration stays as it is."""
    if shutil.which("apt-get") is None:
        raise BuildError("no apt-get here")
    mirror = _mirror()
    (place / "lists" / "partial").mkdir(parents=True)
    (place / "cache").mkdir()
    signed = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
    (place / "sources.list").write_text(f"deb-src {signed}{mirror} {source.debian['suite']} main\n")
    (place / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{place}/sources.list";\n'
        'Dir::Etc::sourceparts "-";\n'
        f'Dir::State::lists "{place}/lists";\n'
        f'Dir::Cache "{place}/cache";\n'
        'APT::Sandbox::User "";\n'
    )
    wanted = f"{source.debian['package']}={source.debian['version']}"
    for command in (["update"], ["source", "--download-only", wanted]):
        done = subprocess.run(
            ["apt-get", "-qq", *command],
            cwd=place,
            env={**os.environ, "APT_CONFIG": str(place / "apt.conf"), "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise BuildError(f"apt-get {' '.join(command)}: {lines[0]}")
    found = [path for path in place.glob("*.orig.tar.*") if path.suffix != ".asc"]
    if len(found) != 1:
        raise BuildError(f"{wanted} has {len(found)} archives instead of one")
    return found[0]


def _mirror() -> str:
    """The Debian mirror that this machine's apt is configured with."""
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)"],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stdout.split():
        if line.rstrip("/").endswith("/debian"):
            return line
    raise BuildError("apt-get has no Debian mirror configured")
