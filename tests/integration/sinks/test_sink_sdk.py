"""The sink SDK as others meet it: docs/sinks.md and examples/sink-http, followed to the word.

The example is installed beside telemetryd as the page says, proves itself there with the published
contract suite, and serves as a sink of telemetryd in a local Lambda.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.lifecycle import IN_TIME, SHORT_END, Stage, play, settings, statuses

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "sink-http"
PAGE = (ROOT / "docs" / "sinks.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
TOML = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
(SHELL,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
LAUNCHER = next(code for code in PYTHON if code.startswith("#!"))

DOCUMENTED = """
import gzip as _gzip
from telemetryd.testing import SinkContract
from test_http_sink import TestHttpSink as _HttpSubject, server

{code}

class TestCountingSink(SinkContract):
    sink_class = CountingSink

    def config(self, directory, **keys):
        return CountingSink.Config(type="counting", **keys)


class TestGzipHttpSink(_HttpSubject):
    sink_class = GzipHttpSink
    refused_bytes = None

    def config(self, directory, **keys):
        self.server.decode = _gzip.decompress
        return super().config(directory, **keys)


def test_the_policy_names_the_queue():
    (need,) = QueueConfig(type="queue", queue="orders").aws_needs()
    assert need.resource.endswith(":orders")
"""


def is_shown_from_the_example(code: str) -> bool:
    sources = ("telemetryd_sink_http.py", "tests/test_http_sink.py", "pyproject.toml")
    return any(code in (EXAMPLE / name).read_text() for name in sources)


def program(*, imports: Path, **variables: str) -> dict[str, Any]:
    """Arguments of a subprocess that finds packages in `imports`."""
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "TELEMETRYD"))
    }
    environment |= {"PYTHONPATH": str(imports), "PYTHONDONTWRITEBYTECODE": "1"} | variables
    return {"env": environment, "capture_output": True, "text": True}


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layer that the page's commands make, of this tree instead of an index, offline."""
    directory = tmp_path_factory.mktemp("layer")
    example = directory / "sink-http"
    shutil.copytree(EXAMPLE, example, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    packages = directory / "layer" / "telemetryd"
    launcher = LAUNCHER.replace("/var/lang/bin/python3", sys.executable)
    (directory / "launcher.py").write_text(launcher.replace("/opt/telemetryd", str(packages)))
    *commands, zipped = SHELL.splitlines()
    assert "zip" in zipped  # a program that need not be there
    options = "--quiet --no-index --no-deps --no-build-isolation --disable-pip-version-check"
    script = "\n".join(commands).replace(
        "telemetryd telemetryd-sink-http", f"{options} {ROOT} {example}"
    )
    script = script.replace("pip install", f"{sys.executable} -m pip install", 1)
    done = subprocess.run(
        ["sh", "-e", "-c", script], cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return directory / "layer"


def test_the_example_has_less_than_100_lines() -> None:
    (source,) = EXAMPLE.glob("*.py")
    assert len(source.read_text().splitlines()) < 100


def test_the_sinks_of_the_example_and_of_the_page_keep_the_contract(
    layer: Path, tmp_path: Path
) -> None:
    """Only what was installed is imported: the published package has all that the suite needs."""
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    shutil.copy(EXAMPLE / "pyproject.toml", tmp_path)
    own = [code for code in PYTHON if code != LAUNCHER and not is_shown_from_the_example(code)]
    assert len(own) == 3
    (tmp_path / "tests" / "test_page.py").write_text(DOCUMENTED.format(code="\n\n".join(own)))
    where = "import telemetryd, telemetryd_sink_http as s; print(telemetryd.__file__, s.__file__)"
    run = program(imports=layer / "telemetryd")
    found = subprocess.run([sys.executable, "-c", where], cwd=tmp_path, check=False, **run)
    assert found.stdout.count(str(layer)) == 2, found
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA"]
    done = subprocess.run(command, cwd=tmp_path, check=False, **run)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.findall(r"^PASSED \S+::(Test\w+)::", done.stdout, re.MULTILINE)
    assert set(passed) == {"TestHttpSink", "TestCountingSink", "TestGzipHttpSink"}


def test_lines_of_a_local_lambda_arrive_over_http(layer: Path, tmp_path: Path) -> None:
    """Every line that the file sink beside it got, in the same order."""
    stage = Stage(tmp_path)
    with ndjson_server().NdjsonServer(drop_duplicates=True) as server:
        variables = settings(
            SINKS__COLLECTOR__TYPE="ndjson", SINKS__COLLECTOR__URL=server.url,
            SINKS__COLLECTOR__TOKEN="s3cret",  # noqa: S106 - to be searched for
        )  # fmt: skip
        config = stage.config(variables, extensions=[layer / "extensions" / "telemetryd"])
        results, env = play(config, {"print": 3}, {"print": 2000}, {"print": 1})
        lines = server.lines.splitlines(keepends=True)
    assert statuses(results) == ["success", "success", "success"]
    stage.assert_nothing_lost(env)
    assert lines == stage.lines()
    assert stage.told("sinks.collector.delivered") == len(lines) > 2000
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer s3cret"}
    assert not [line for _, line in stage.printed if "s3cret" in line]


def test_a_server_that_is_down_costs_the_function_nothing(layer: Path, tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with ndjson_server().NdjsonServer() as server:
        server.is_down = True
        variables = settings(SINKS__COLLECTOR__TYPE="ndjson", SINKS__COLLECTOR__URL=server.url)
        launcher = layer / "extensions" / "telemetryd"
        config = stage.config(variables | IN_TIME, extensions=[launcher], **SHORT_END)
        results, env = play(config, {"print": 3}, {"print": 3})
    assert statuses(results) == ["success", "success"]
    stage.assert_nothing_lost(env)
    stage.assert_clean_exits(env)
    assert server.lines == b""
    (ledger,) = stage.ledgers()
    dropped = ledger["sinks"]["collector"]["dropped"]
    assert "http_503" in dropped
    assert sum(count["lines"] for count in dropped.values()) == len(stage.lines())


def test_the_configuration_on_the_page_is_valid_and_a_wrong_one_is_refused(
    layer: Path, tmp_path: Path
) -> None:
    (section,) = [text for text in TOML if not is_shown_from_the_example(text)]
    file = tmp_path / "telemetryd.toml"
    command = [sys.executable, "-m", "telemetryd", "check"]
    run = program(imports=layer / "telemetryd", TELEMETRYD_CONFIG=str(file))
    file.write_text(section)
    done = subprocess.run(command, check=False, **run)
    assert done.returncode == 0, done.stderr
    assert 'url = "https://collector.example.com/v1/lines"' in done.stdout
    file.write_text(section.replace("https://", "") + 'token = "one\\ntwo"\nretries = 3\n')
    done = subprocess.run(command, check=False, **run)
    assert done.returncode == 78
    assert "sinks.collector.url = " in done.stderr
    assert "must look like https://host/path" in done.stderr
    assert "sinks.collector.token = " in done.stderr
    assert "two" not in done.stderr
    assert "sinks.collector.retries: unknown key" in done.stderr


def ndjson_server() -> Any:
    """The example's server; its tests are not a package."""
    path = EXAMPLE / "tests" / "ndjson_server.py"
    spec = importlib.util.spec_from_file_location("ndjson_server", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
