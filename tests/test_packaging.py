"""What a stranger relies on: metadata, pinned versions, the README's promises, tidy modules."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import runpy
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from fnmatch import fnmatch
from importlib.metadata import entry_points, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import rcml_misa
from rcml_misa.estimators.rcml_misa import NETWORKS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rcml_misa"
ROOMS = (".ci", "rcml_misa", "benchmarks", "docs", "examples", "experiments", "tests")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
MODULES = sorted(
    name
    for _, name, _ in pkgutil.walk_packages([str(PACKAGE)], "rcml_misa.")
    if not name.rsplit(".", 1)[1].startswith("_")
)
# in pieces, so that this file does not name them either
REGISTRIES = [
    name + end
    for name, end in (
        ("pypi.", "org"),
        ("pythonhosted", ".org"),
        ("pypi.", "python"),
        ("download.", "pytorch"),
        ("anaconda", ".org"),
        ("npmjs", ".org"),
        ("debian", ".org"),
    )
]
MACHINE_PATH = re.compile(r"(?<![\w.~$}])(?:/(?:home|root|Users|work|mnt|opt)|[A-Z]:\\+Users)[/\\]")


def repository_files():
    tops = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    rooms = [path for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file()]
    skipped = {
        "__pycache__",
        "site",
        "venv",
        "wheel",
        ".hypothesis",
        ".pytest_cache",
        ".ruff_cache",
    }
    return [path for path in tops + rooms if not skipped & set(path.relative_to(ROOT).parts)]


def pinned():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonical(pin.name): pin.specifier for pin in pins}


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_version_is_the_same_everywhere():
    assert rcml_misa.__version__ == version("rcml-misa")
    assert f"version: {rcml_misa.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"## [{rcml_misa.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_command_is_installed():
    (command,) = (one for one in entry_points(group="console_scripts") if one.name == "rcml-misa")
    assert command.value == "rcml_misa.__main__:start"
    assert callable(command.load())


@pytest.mark.parametrize("text", requires("rcml-misa") or [])
def test_requirement_has_a_tested_version_within_its_bounds(text):
    requirement = Requirement(text)
    specifier = pinned()[canonical(requirement.name)]
    (pin,) = specifier
    assert pin.operator == "=="
    assert "+" not in pin.version  # a local build is not for everybody
    assert requirement.specifier.contains(pin.version)


def test_every_data_file_of_the_package_is_installed_with_it():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    patterns = {
        package.replace(".", "/") + "/" + pattern.strip()
        for package, listed in config["options.package_data"].items()
        for pattern in listed.split(",")
    }
    for path in PACKAGE.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            name = path.relative_to(ROOT).as_posix()
            assert any(fnmatch(name, pattern) for pattern in patterns), name
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


@pytest.mark.parametrize("path", repository_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_file_names_no_package_registry_and_no_path_of_a_machine(path):
    text = path.read_text(encoding="utf-8", errors="ignore")
    assert [host for host in REGISTRIES if host in text] == []
    assert MACHINE_PATH.findall(text) == []


@pytest.mark.parametrize("name", MODULES)
def test_module_says_what_is_public_and_documents_it(name):
    module = importlib.import_module(name)
    assert module.__doc__, "no module docstring"
    assert len(set(module.__all__)) == len(module.__all__)
    for public in module.__all__:
        thing = getattr(module, public)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        # a dataclass without a docstring gets its signature for one
        assert thing.__doc__, public
        assert not thing.__doc__.startswith(f"{public}("), public
        for attribute, value in vars(thing).items() if inspect.isclass(thing) else ():
            kinds = staticmethod | classmethod | property
            if not attribute.startswith("_") and (
                inspect.isfunction(value) or isinstance(value, kinds)
            ):
                assert inspect.getdoc(getattr(thing, attribute)), f"{public}.{attribute}"


def test_importing_the_package_loads_no_heavy_library():
    program = "import sys, rcml_misa; print(*sys.modules)"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    heavy = {"torch", "sklearn", "pandas", "scipy", "rich", "pooch", "matplotlib", "pydantic"}
    assert heavy & set(done.stdout.split()) == set()


def test_readme_has_the_two_commands():
    assert "\npip install -c constraints.txt -e . && rcml-misa run\n" in README
    assert '\npip install -c constraints.txt -e ".[test]" && pytest -n auto\n' in README
    assert 'pip install --quiet -c constraints.txt -e ".[test]"' in (ROOT / ".ci/run").read_text()


def test_readme_is_short():
    assert len(README.splitlines()) <= 130


def test_the_map_names_every_room():
    rooms = (ROOT / "docs" / "map.md").read_text(encoding="utf-8")
    for path in PACKAGE.iterdir():
        if path.name.startswith("_") or path.name == "py.typed":
            continue
        room = f"`rcml_misa/{path.name}{'/' if path.is_dir() else ''}`"
        assert room in rooms, room


def test_the_map_has_the_layers_of_the_contract():
    rooms = (ROOT / "docs" / "map.md").read_text(encoding="utf-8")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (layers,) = (
        contract["layers"]
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    )
    assert " → ".join(f"`{layer}`" for layer in layers[1:]) in rooms


# test_callbacks.py runs that one, which needs a command's records
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "callbacks.md"], ids=lambda path: path.name
)
def test_code_on_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some of it writes files
    for expert, (_, fraction, _) in NETWORKS.items():  # how long networks train is not the question
        monkeypatch.setitem(NETWORKS, expert, (1, fraction, 5))
    blocks = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)
    if not blocks:
        return
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    names = runpy.run_path(str(script))
    if page.name == "engines.md":
        assert len(names["records"]) == len(names["tasks"])
        assert all(record.metrics for record in names["records"])
        return
    assert names["accuracy"] > 0.9
    assert names["trusted"].dtype == bool
    assert names["trusted"].any()
    assert names.get("same", True)  # what was saved answers as before


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_of_a_page_exist(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text("utf-8")):
        assert (page.parent / target).is_file(), target
