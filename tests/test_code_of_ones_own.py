"""Code is imported where a method is its path, from the end of the path, and from nowhere else."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from commands import call, done
from sklearn.preprocessing import StandardScaler

from rcml_misa.cli.plans import read_plan
from rcml_misa.estimators.foreign import importable
from rcml_misa.estimators.registry import find_method, is_foreign, recipe
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.persistence.transformers import read_transformer, write_transformer

ROOT = Path(__file__).parents[1]
CANARY = "canary-{}"
#: Names of files that imports of the package or of Python's own start would come by.
SHADOWS = ("torch", "numpy", "pandas", "multiprocessing", "queue", "joblib", "rich", "pydantic")
MINE = """
from sklearn.naive_bayes import GaussianNB

def method():
    import helper_of_mine

    return helper_of_mine.made()
"""
HELPER = "from sklearn.naive_bayes import GaussianNB as made\n"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A current folder with files that write a canary where they are imported, and two that don't.

    The folder is on no path that Python looks at.
    """
    for name in (*SHADOWS, "evil"):
        written = str(tmp_path / CANARY.format(name))
        (tmp_path / f"{name}.py").write_text(f"open({written!r}, 'w').close()\nRun = made = None\n")
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "helper_of_mine.py").write_text(HELPER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in ("", ".")])
    yield tmp_path
    for name in ("evil", "mine", "helper_of_mine"):
        sys.modules.pop(name, None)


def canaries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(CANARY.format("*")))


def run_python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONSAFEPATH", None)
    return subprocess.run(  # noqa: S603 - Python and the words of these tests
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


COMPARE = ("compare", "--datasets", "digits", "--runs", "1", "--jobs", "2", "--methods")


def test_no_file_of_the_current_folder_stands_in_for_a_module(folder) -> None:
    """Started as the script ``rcml-misa`` is, which has its own folder first on the path."""
    start = "import sys; sys.path.remove(''); from rcml_misa.cli import main; main()"
    result = run_python(folder, "-c", start, *COMPARE, "majority")
    assert result.returncode == 0, result.stderr
    assert canaries(folder) == []


def test_code_of_ones_own_in_workers(folder) -> None:
    """Started by ``python -m``, which puts the current folder first, as it does in workers."""
    result = run_python(folder, "-m", "rcml_misa", *COMPARE, "majority,mine:method")
    assert result.returncode == 0, result.stderr
    assert "mine:method" in result.stdout
    assert canaries(folder) == []


def test_the_folder_is_last_and_only_where_a_method_is_a_path(folder) -> None:
    recipe("lda", code=str(folder))
    assert str(folder) not in sys.path
    made = recipe("mine:method", code=str(folder))
    assert sys.path[-1] == str(folder)
    assert made.code == str(folder)
    importable(str(folder))
    importable("")
    assert sys.path.count(str(folder)) == 1
    assert canaries(folder) == []


def test_commands_that_name_no_path_leave_the_path_alone(folder) -> None:
    before = list(sys.path)
    done("compare", "--methods", "majority", "--runs", 1, "--jobs", 1)
    done("run", "--method", "majority", "--runs", 1, "--jobs", 1)
    (folder / "plan.toml").write_text('datasets = ["digits"]\nruns = 1\nmethods = ["majority"]\n')
    done("experiment", "plan.toml", "--jobs", 1)
    assert sys.path == before
    assert "PYTHONSAFEPATH" not in os.environ


def test_any_process_builds_a_recipe(folder, tmp_path_factory) -> None:
    made = recipe("mine:method", code=str(folder))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "recipe.pkl").write_bytes(pickle.dumps(made))
    work = "import pickle; print(pickle.load(open('recipe.pkl', 'rb')).build(0).estimator)"
    result = run_python(elsewhere, "-c", work)
    assert result.stdout == "GaussianNB()\n", result.stderr


PLAN = 'datasets = ["digits"]\nruns = 1\nmethods = [{}]\n'
PATHS = [
    *("evil:Run", "evil:Run.x", "os:system", "os:abort", "sys:exit", "builtins:input"),
    *("faulthandler:_sigsegv", "antigravity:x", "code:interact", "sklearn.svm:SVC"),
    "rcml_misa.cli:main",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("entry", ['"{}"', '{{ method = "{}", set = {{ C = 1 }} }}'])
def test_plans_that_name_code_ask_for_consent(folder, path, entry) -> None:
    (folder / "plan.toml").write_text(PLAN.format('"lda", ' + entry.format(path)))
    loaded = set(sys.modules)
    with pytest.raises(OptionError) as raised:
        read_plan(Path("plan.toml"))
    module = path.partition(":")[0]
    assert str(raised.value) == (
        f"plan.toml names the method '{path}', which imports the module {module} and so runs its "
        "code; add --allow-code if you trust both."
    )
    assert canaries(folder) == []
    fresh = {name.partition(".")[0] for name in set(sys.modules) - loaded}
    assert fresh <= {"rcml_misa", "encodings"}
    assert str(folder) not in sys.path


def test_consent_is_an_option(folder) -> None:
    (folder / "plan.toml").write_text(PLAN.format('"majority", "mine:method"'))
    refused = call("experiment", "plan.toml", "--jobs", 1)
    assert refused.exit_code == 2
    for word in ("plan.toml", "'mine:method'", "--allow-code"):
        assert word in refused.stderr
    for more in ("--from-csv", "--full"):
        assert call("experiment", "plan.toml", more).exit_code == 2
    assert "mine" not in sys.modules
    assert "mine:method" in done("experiment", "plan.toml", "--jobs", 1, "--allow-code").stdout


@pytest.mark.parametrize(
    "name",
    ["a b:c", "..x:y", "work.py:", ":", ":x", "evil:", "evil:Run:x", "evil", "1a:b", "evil:()"],
)
def test_names_that_are_no_paths_import_nothing(folder, name) -> None:
    with pytest.raises(OptionError, match="no method"):
        find_method(name)
    with pytest.raises(OptionError, match="no method"):
        recipe(name, code=str(folder))
    assert canaries(folder) == []
    assert is_foreign("evil:Run")


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise KeyError('x' * 999)", "KeyError"),
        ("def run(:", "SyntaxError"),
        ("import no_such_module_at_all", "no_such_module_at_all"),
        ("def run(): raise SystemExit(4)", "no usable classifier: 4"),
        ("class run: pass", "no fit or no predict"),
        ("run = print", "neither a class nor a function"),
    ],
)
def test_code_that_fails_ends_in_a_sentence(folder, code, part) -> None:
    (folder / "mine.py").write_text(code + "\n")
    result = call("run", "--method", "mine:run", "--runs", 1, "--jobs", 1)
    assert result.exit_code == 2
    assert part in " ".join(result.stderr.split())
    assert len(result.stderr) <= 308


EVERYWHERE = ("./evil.py", "./evil", "evil", "evil:Run", "module://evil", "evil.Run", "../evil")


@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.parametrize(
    "text",
    [
        'methods = [{{ method = "lda", variant = "{}" }}]',
        'methods = [{{ method = "lda", preset = "{}" }}]',
        'methods = [{{ method = "lda", set = {{ model = "{}" }} }}]',
        'methods = [{{ method = "lda", set = {{ "{}" = 1 }} }}]',
        'methods = [{{ method = "lda", grid = {{ scaling = ["{}"] }} }}]',
        'methods = [{{ method = "lda", label = "{}", keep = ["{}"] }}]',
        'methods = [{{ method = "misa", set = {{ text_encoder = "{}" }} }}]',
        'methods = [{{ method = "rcml", set = {{ device = "{}" }} }}]',
        'methods = ["lda"]\ntitle = "{}"',
        'methods = ["lda"]\ntask = "{}"',
        'methods = ["lda"]\n[protocol]\nsplit = "{}"',
        'methods = ["lda"]\n[protocol]\ntest_sets = ["{}"]',
        'methods = ["lda"]\n[files]\ntarget = "{}"\ntest_file = "{}"',
    ],
)
def test_no_other_key_of_a_plan_names_code(folder, text, name) -> None:
    (folder / "plan.toml").write_text(
        f'datasets = ["digits"]\n{text.replace("{}", name)}\n'.replace("{{", "{").replace("}}", "}")
    )
    try:
        read_plan(Path("plan.toml"), allow_code=True)
    except (DataError, OptionError) as error:
        assert "\n" not in str(error)  # noqa: PT017 - most are refused, some are texts like any other
    assert canaries(folder) == []
    assert "evil" not in sys.modules
    assert str(folder) not in sys.path


@pytest.mark.parametrize("name", ["./evil.py", "evil", "evil.py", "./"])
def test_no_data_set_names_code(folder, name) -> None:
    (folder / "plan.toml").write_text(f'datasets = ["{name}"]\nruns = 1\nmethods = ["majority"]\n')
    assert call("experiment", "plan.toml", "--jobs", 1).exit_code == 2
    assert canaries(folder) == []


def test_a_text_model_of_a_folder_brings_no_code(folder, monkeypatch) -> None:
    pytest.importorskip("transformers")
    from rcml_misa.nn.pretrained import PretrainedText, load_tokenizer

    model = folder / "model"
    model.mkdir()
    code = f"open({str(folder / CANARY.format('model'))!r}, 'w').close()\n"
    for name in ("configuration_evil", "modeling_evil", "tokenization_evil"):
        (model / f"{name}.py").write_text(code)
    classes = {
        "AutoConfig": "configuration_evil.EvilConfig",
        "AutoModel": "modeling_evil.EvilModel",
        "AutoTokenizer": ["tokenization_evil.EvilTokenizer", None],
    }
    content = {"model_type": "evil", "auto_map": classes}
    (model / "config.json").write_text(json.dumps(content))
    (model / "tokenizer_config.json").write_text(json.dumps(content))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))  # no question is asked
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    for load in (
        lambda: PretrainedText(str(model), trained_layers=0, local=True),
        lambda: load_tokenizer(str(model), local=True),
    ):
        with pytest.raises(OptionError, match="can't be loaded"):
            load()
    assert canaries(folder) == []


@pytest.mark.parametrize("loader", ["ObjectNode", "TypeNode", "FunctionNode", "ReduceNode", "X"])
def test_steps_of_a_model_file_import_no_module_that_is_not_on_the_list(folder, loader) -> None:
    importable(str(folder))  # even where the folder can be imported from
    content = write_transformer(StandardScaler().fit([[0.0], [2.0]]), "x").tobytes()
    with zipfile.ZipFile(io.BytesIO(content)) as members:
        files = {name: members.read(name) for name in members.namelist()}
    schema = json.loads(files["schema.json"])
    schema |= {"__module__": "evil", "__class__": "Run", "__loader__": loader}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as written:
        for name, data in {**files, "schema.json": json.dumps(schema).encode()}.items():
            written.writestr(name, data)
    with pytest.raises(DataError, match="can't be read"):
        read_transformer(np.frombuffer(stream.getvalue(), dtype=np.uint8))
    assert "evil" not in sys.modules
    assert canaries(folder) == []
