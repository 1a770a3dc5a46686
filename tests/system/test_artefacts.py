"""The distributions as their users use them: built once, installed elsewhere, removed again."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from email.message import Message
from email.parser import BytesParser
from html.parser import HTMLParser
from pathlib import Path

import pytest
import readme_renderer.markdown

import telemetryd

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/telemetryd/telemetryd"
PICTURES = "https://raw.githubusercontent.com/telemetryd/telemetryd/main/"
VERSION = telemetryd.__version__
IMPORTS = {
    "telemetryd": "import telemetryd.listen, telemetryd.sinks.kinesis.sink",
    "telemetryd-proto": "import telemetryd_proto.kinesis, telemetryd_proto.events",
}


def run(*command: object, cwd: Path, **environment: str) -> str:
    """What a command prints; it must succeed, and sees nothing of this test's environment."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("PYTHON", "VIRTUAL_ENV", "MAKE", "TELEMETRYD_"))
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=kept | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdists, and the wheels built from these sdists: as an index gets them."""
    place = tmp_path_factory.mktemp("dist")
    for project in (ROOT / "proto", ROOT):
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", place, project, cwd=place)
    return place


def one(dist: Path, pattern: str) -> Path:
    """The file of that name."""
    (found,) = dist.glob(pattern)
    return found


def wheel(dist: Path, project: str) -> Path:
    """The wheel of a project."""
    return one(dist, f"{project.replace('-', '_')}-{VERSION}-*.whl")


def sdist(dist: Path, project: str) -> Path:
    """The source distribution of a project."""
    return one(dist, f"{project.replace('-', '_')}-{VERSION}.tar.gz")


def metadata(dist: Path, project: str) -> Message:
    """What a wheel says of itself."""
    with zipfile.ZipFile(wheel(dist, project)) as packed:
        (name,) = [name for name in packed.namelist() if name.endswith(".dist-info/METADATA")]
        return BytesParser().parsebytes(packed.read(name))


def clean(place: Path) -> Path:
    """The interpreter of a new environment."""
    venv.create(place, with_pip=True)
    return place / "bin" / "python"


def pip(python: Path, *arguments: object) -> str:
    """Run pip in that environment."""
    return run(python, "-m", "pip", "--disable-pip-version-check", *arguments, cwd=python.parent)


def works(python: Path, *projects: str) -> bool:
    """True if these projects, and no file of the checkout, can be imported."""
    found = [
        subprocess.run([python, "-I", "-c", IMPORTS[p]], cwd="/", capture_output=True, check=False)
        for p in projects
    ]
    return all(done.returncode == 0 for done in found)


def test_no_file_belongs_to_both(dist: Path) -> None:
    """Else the removal of one breaks the other."""
    names = []
    for project in IMPORTS:
        with zipfile.ZipFile(wheel(dist, project)) as packed:
            names.append({name for name in packed.namelist() if ".dist-info/" not in name})
    assert names[0] & names[1] == set()
    assert {name.partition("/")[0] for name in names[0]} == {"telemetryd"}
    assert {name.partition("/")[0] for name in names[1]} == {"telemetryd_proto"}


@pytest.mark.parametrize("first", IMPORTS)
@pytest.mark.parametrize("removed", IMPORTS)
def test_either_order_and_either_removal(
    dist: Path, tmp_path: Path, first: str, removed: str
) -> None:
    """The protocol stays when the daemon goes; the daemon says what it misses, and comes back."""
    python = clean(tmp_path / "venv")
    second = next(project for project in IMPORTS if project != first)
    for project in (first, second):
        pip(python, "install", "--quiet", "--find-links", dist, wheel(dist, project))
    assert works(python, *IMPORTS)
    pip(python, "uninstall", "--quiet", "--yes", removed)
    left = next(project for project in IMPORTS if project != removed)
    assert works(python, left) == (left == "telemetryd-proto")  # the daemon needs the protocol
    pip(python, "install", "--quiet", "--find-links", dist, wheel(dist, removed))
    assert works(python, *IMPORTS)
    pip(python, "check")


def test_an_installation_does_what_the_readme_shows(dist: Path, tmp_path: Path) -> None:
    """Kinesis and zstd without an extra; the old extras still exist, and ask for nothing."""
    python = clean(tmp_path / "venv")
    pip(python, "install", "--quiet", "--find-links", dist, f"telemetryd[aws,zstd]=={VERSION}")
    program = python.with_name("telemetryd")
    readme = (ROOT / "README.md").read_text()
    (example,) = [
        block for block in re.findall(r"```toml\n(.*?)```", readme, re.DOTALL) if "kinesis" in block
    ]
    config = tmp_path / "telemetryd.toml"
    config.write_text(example)
    checked = run(
        program, "check", "--config", config, cwd=tmp_path, AWS_DEFAULT_REGION="eu-west-1"
    )
    assert "not installed" not in checked
    assert run(program, "--version", cwd=tmp_path) == f"telemetryd {VERSION}\n"
    assert metadata(dist, "telemetryd").get_all("Provides-Extra") == [
        "aws", "fast", "local", "testing", "zstd",
    ]  # fmt: skip


def test_make_run_works_in_the_unpacked_source(dist: Path, tmp_path: Path) -> None:
    """The README's first command, where there is no repository."""
    with tarfile.open(sdist(dist, "telemetryd")) as packed:
        packed.extractall(tmp_path, filter="data")
    source = tmp_path / f"telemetryd-{VERSION}"
    printed = run("make", "run", f"PYTHON={sys.executable}", cwd=source)
    assert "every line arrived" in printed


def documented() -> list[str]:
    """What the documents say to install from a checkout, such as `./proto .`."""
    lines = [
        line
        for name in ("README.md", "docs/deploy.md", "tests/container/local.Dockerfile")
        for line in (ROOT / name).read_text().splitlines()
    ]
    found = (
        re.search(r"\bpip install (?:--quiet )?(\.\S* \S.*|\S?\.(?:\[.*)?)$", ln) for ln in lines
    )
    return sorted({match.group(1) for match in found if match})


def test_what_the_documents_install_from_a_checkout_can_be_installed(tmp_path: Path) -> None:
    """From nothing but a checkout: no index has what it holds, or has another version."""
    assert len(documented()) >= 2
    for number, arguments in enumerate(documented()):
        python = clean(tmp_path / str(number))
        what = shlex.split(arguments)
        run(python, "-m", "pip", "install", "--quiet", *what, cwd=ROOT)
        assert works(python, *IMPORTS)


class Links(HTMLParser):
    """Collects where a page leads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        """Remember a link or a picture."""
        self.found += [value for name, value in attrs if name in ("href", "src") and value]


@pytest.mark.parametrize("project", IMPORTS)
def test_every_link_of_the_page_on_an_index_leads_somewhere(dist: Path, project: str) -> None:
    """As the index renders it: no relative address is left, and ours name files that exist."""
    described = metadata(dist, project)
    assert described["Description-Content-Type"].startswith("text/markdown")
    page = readme_renderer.markdown.render(str(described.get_payload()))
    assert page is not None
    links = Links()
    links.feed(page)
    assert links.found
    for link in links.found:
        if link.startswith("#"):
            continue
        assert link.startswith("https://"), link
        for start in (f"{REPOSITORY}/blob/main/", PICTURES):
            if link.startswith(start):
                assert (ROOT / link.removeprefix(start).partition("#")[0]).exists(), link
                assert Path(link).suffix not in (".svg", ".png") or start == PICTURES


@pytest.mark.parametrize("project", IMPORTS)
def test_the_page_names_the_repository_the_licence_and_the_changes(
    dist: Path, project: str
) -> None:
    """What an index shows beside the text."""
    described = metadata(dist, project)
    urls = dict(url.split(", ") for url in described.get_all("Project-URL", []))
    assert {"Homepage", "Source", "Issues", "Changelog", "Documentation"} <= urls.keys()
    assert all(url.startswith(REPOSITORY) for url in urls.values())
    assert described["License-Expression"] == "Apache-2.0"
    assert described.get_all("License-File") == ["LICENSE"]
    assert described["Version"] == VERSION
