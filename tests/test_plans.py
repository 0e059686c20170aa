"""Experiments' files that are wrong, huge or hostile: one sentence each, at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from foreign_files import load_script

from rcml_misa.bounds import MOST, check_total
from rcml_misa.cli import main
from rcml_misa.cli.plans import read_plan
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.results.labels import check_label

fuzzing = load_script("fuzzing")
fuzz_plans = load_script("fuzz_plans")

ONE = 'datasets = ["digits"]\nruns = 1\n'
LDA = 'methods = ["lda"]\n'
MANY = ", ".join(str(number + 1) for number in range(60))


def method(text: str) -> str:
    return f"{ONE}methods = [{{ method = {text} }}]\n"


def sentence_of(path: Path) -> str:
    """Read a plan and plan its runs in a child process with bounds; return its refusal."""

    def work() -> str:
        try:
            title = read_plan(path).title
            return f"{fuzz_plans.plan(path)}: {title}"
        except (DataError, OptionError) as error:
            return " ".join(str(error).split())

    end = fuzzing.attempt(work, seconds=2, megabytes=500)
    assert not end.failed, end
    return end.text.replace(str(path), path.name)


@pytest.fixture(scope="module", autouse=True)
def loaded(tmp_path_factory) -> None:
    """Import what reading takes, so that children start with it."""
    path = tmp_path_factory.mktemp("loaded") / "plan.toml"
    path.write_text(ONE + 'methods = ["all"]\n')
    assert fuzz_plans.plan(path) == "planned"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        # numbers of runs and seeds
        ("runs = true\n" + LDA + 'datasets = ["digits"]', "runs=True; give a whole number"),
        ("runs = 1.5\n" + LDA + 'datasets = ["digits"]', "runs=1.5; give a whole number"),
        ("runs = -3\n" + LDA + 'datasets = ["digits"]', "runs -3 is below 1; give 1 to 10000"),
        ("runs = 1_000_000_000\n" + LDA + 'datasets = ["digits"]', "above 10000; give 1 to 10000"),
        ("runs = 10_000\n" + 'methods = ["all"]\ndatasets = ["digits"]', "at most 100000"),
        ("runs = " + "9" * 10_000, "not TOML: Exceeds the limit"),
        ("runs = 0x" + "f" * 10_000, "40000 bits"),
        (ONE + LDA + "seed = -1", "seed -1 is below 0; give 0 to 2147483647"),
        (ONE + LDA + f"seed = {2**40}", "above 2147483647"),
        (ONE + LDA + f"seed = {2**70}", "a whole number of 71 bits"),
        (ONE + LDA + "seed = nan", "seed=nan; give a whole number"),
        # names
        (ONE + LDA + "foo = 1", "unknown key 'foo'"),
        (ONE + LDA + '"\\u001b[31m" = 1', "unknown key"),
        (ONE + 'methods = ["majorty"]', "did you mean majority"),
        (ONE + "methods = [3]", "no table but 3"),
        (ONE + "methods = []", "methods=[]; give names"),
        (ONE + 'methods = [["majority"]]', "no table but ['majority']"),
        (ONE + f"methods = [{', '.join(['3'] * 501)}]", "500 at most"),
        (LDA + "datasets = 1979-05-27", "datasets='1979-05-27'; give names"),
        (LDA + 'datasets = ["digits", "digits"]', "has digits twice"),
        (LDA + 'datasets = ["dig\\u0000its"]', "no data set"),
        (LDA + f'datasets = ["{"x" * 30_000}"]', "no data set 'xxx"),
        (ONE + LDA + "task = 3", "task=3; give a text"),
        (ONE + LDA + 'task = "9"', "task '9' does not exist"),
        # settings of a method
        (method('"rcml", variant = 3'), "variant=3"),
        (method('"rcml", variant = [1]'), "variant=[1]"),
        (method('"rcml", variant = "mena"'), "did you mean mean"),
        (method('"rcml", preset = ["x"]'), "preset=['x']"),
        (method('"rcml", preset = { a = 1 }'), "preset={'a': 1}"),
        (method('"rcml", set = { epochs = 2024-01-01 }'), "epochs=2024-01-01 is not a int"),
        (method('"rcml", set = { epochs = { a = 1 } }'), "epochs={'a': 1} is not a int"),
        (method('"rcml", set = { epochs = 1_000_001 }'), "up to 1000000; the nearest is 1000000"),
        (method('"rcml", set = { learning_rate = nan }'), "learning_rate=nan"),
        (method('"rcml", set = { learning_rate = inf }'), "learning_rate=inf"),
        (method(f'"rcml", set = {{ epochs = "{"x" * 5000}" }}'), "epochs=xxxx"),
        (method(f'"rcml", set = {{ {"x" * 5000} = 1 }}'), "no option 'xxx"),
        (method(f'"rcml", grid = {{ epochs = [{MANY}], batch_size = [{MANY}] }}'), "3600 variants"),
        (
            method(f'"rcml", grid = {{ {",".join(f"{k} = [{MANY}]" for k in "abcdefghij")} }}'),
            f"{60**10} variants",
        ),
        (method('"rcml", grid = { epochs = [] }, keep = [3]'), "keep.0=3"),
        (method('"lda", figure = 1e400'), "figure=inf; give a fraction"),
        (method('"lda", figure = nan'), "figure=nan; give a fraction"),
        (method('"lda", figure = "0.5"'), "figure='0.5'; give a fraction"),
        # labels
        (method('"lda", label = ""'), "label '' is empty"),
        (method('"lda", label = "  "'), "is empty"),
        (method('"lda", label = "."'), "of dots alone"),
        (method('"lda", label = ".. ."'), "of dots alone"),
        (method('"lda", label = "a\\u0000b"'), r"label 'a\x00b' has a character"),
        (method('"lda", label = "a|b\\nc"'), r"label 'a|b\nc' has a character"),
        (method('"lda", label = "\\u001b[31m"'), r"label '\x1b[31m' has a character"),
        (method('"lda", label = "\\u202etxt"'), r"'\u202etxt' has a character"),
        (method(f'"lda", label = "{"L" * 300}"'), "300 characters long; give a label of at most"),
        (method(f'"rcml", set = {{ scaling = "none" }}, keep = ["{"v" * 300}"]'), "at most 200"),
        (ONE + 'methods = ["lda", { method = "lda" }]', "lda - twice; give each its own label"),
        # title, protocol, files
        (ONE + LDA + "title = 3", "title=3"),
        (ONE + LDA + f'title = "{"x" * 301}"', "at most 300 characters"),
        (ONE + LDA + "protocol = [1]", "is no table but [1]"),
        (ONE + LDA + "[protocol]\nx = 1", "unknown key 'x'"),
        (ONE + LDA + "[protocol]\ntest_sets = [1]", "test_sets.0=1"),
        (ONE + LDA + '[protocol]\ntest_sets = [["clean"]]', "test_sets.0=['clean']"),
        (ONE + LDA + '[protocol]\ntest_sets = ["noise:nan"]', "not 0 or more and up to 1e+06"),
        (ONE + LDA + '[protocol]\ntest_sets = ["noise:1e308"]', "not 0 or more and up to 1e+06"),
        (ONE + LDA + '[protocol]\ntest_sets = ["missing:1"]', "not in [0, 1)"),
        (ONE + LDA + f"[protocol]\ncheckpoints = {[1] * 1001}", "checkpoints has 1001 items"),
        (ONE + LDA + "[protocol]\nfolds = 1_000_000", "folds 1000000 is above 10000"),
        (ONE + LDA + "[protocol]\ntest_share = 2.0", "test_share=2.0"),
        (ONE + LDA + "[protocol]\nheld_out = 99_999", "held_out 99999 is above 10000"),
        (ONE + LDA + "[protocol]\nlabel_noise = nan", "label_noise=nan"),
        (ONE + LDA + "[files]\ntarget = 3", "files has target=3"),
        # bytes, sizes and depths
        (b"\xff\xfe", "is not TOML: 'utf-8'"),
        (b'"\xe9" = 1', "is not TOML: 'utf-8'"),
        (b'a = "\0"', "is not TOML"),
        ("a = " + "[" * 100_000, "more than 16 levels"),
        ("a = " + "{ a = " * 20_000, "more than 16 levels"),
        ("a = " + '{ "]" = ' * 30 + "1" + " }" * 30, "more than 16 levels"),
        ("a." * 50_000 + "a = 1", "more than 16 levels"),
        ("'a' . \"b]\" . " * 5_000 + "a = 1", "more than 16 levels"),
        ("[" + "a." * 50_000 + "a]", "more than 16 levels"),
        ('a = """' + '"' * 100_001, "not TOML"),
        ('a = "' + '\\"' * 100_000, "not TOML"),
        ("x" * 200_000, "not TOML"),
        ('title = "' + "x" * 10**7 + '"', "more than 262144 bytes"),
        ("".join(f"k{number}.a = 1\n" for number in range(20_000)), "unknown key"),
        ("".join(f"[a.k{number}]\n" for number in range(20_000)), "unknown key 'a'"),
    ],
)
def test_one_sentence_at_once(tmp_path, text, part) -> None:
    path = tmp_path / "plan.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert part in sentence_of(path)


def test_files_that_are_no_files(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        assert "is no plain file" in sentence_of(path)
    assert "can't be read" in sentence_of(tmp_path / "a\0b")


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + ONE + LDA,
        (ONE + LDA).replace("\n", "\r\n"),
        ONE + LDA + 'title = "[[[[[[[[[[[[[[[[[[[[ a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t"',
        ONE + LDA + f"# {'[' * 30} {'a.' * 30}a\ntitle = '''\n{'{' * 30}'''",
        method('"lda", label = "1/0.5/1 : ü 数"'),
        ONE + f"seed = {MOST['seed']}\n" + LDA,
        ONE + 'methods = ["all", { method = "lda", label = "again" }]',
    ],
)
def test_files_that_are_planned(tmp_path, text) -> None:
    path = tmp_path / "plan.toml"
    path.write_bytes(text.encode())
    assert sentence_of(path).startswith("planned: ")


def test_settings_keep_their_kinds(tmp_path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(method('"rcml", set = { hidden = [8, 4], epochs = 2, learning_rate = 1.0 }'))
    (entry,) = read_plan(path).entries
    assert entry.recipe.variant == "mean hidden=8,4 epochs=2 learning_rate=1.0"
    assert [entry.recipe.params[key] for key in ("hidden", "epochs", "learning_rate")] == [
        (8, 4),
        2,
        1.0,
    ]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("run", "--runs", 10**9), "--runs 1000000000 is above 10000; give 1 to 10000."),
        (("run", "--runs", 0), "--runs 0 is below 1; give 1 to 10000."),
        (("run", "--seed", 2**70), "is above 2147483647"),
        (("compare", "--jobs", 10**6), "--jobs 1000000 is above 1024"),
        (("ablate", "--epochs", 10**9), "--epochs 1000000000 is above 1000000"),
        (("tune", "--trials", 10**9), "--trials 1000000000 is above 10000"),
        (("audit", "--runs", -1), "--runs -1 is below 1"),
        (("run", "--folds", 10**6), "folds 1000000 is above 10000"),
        (("run", "--set", "epochs=1000001", "--method", "rcml"), "the nearest is 1000000"),
        (("compare", "--runs", 10_000, "--methods", "all"), "a command plans at most 100000"),
        (("fit", "--dataset", "digits", "--out", "x", "--seed", 2**40), "is above 2147483647"),
    ],
)
def test_numbers_of_the_command_line(words, part) -> None:
    result = CliRunner().invoke(main, [*map(str, words)])
    assert result.exit_code == 2
    assert part in " ".join(result.stderr.split())


def test_numbers_of_a_command_win_over_the_files_and_are_bounded(tmp_path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(ONE + 'methods = ["all"]\n')
    result = CliRunner().invoke(main, ["experiment", str(path), "--runs", "10000", "--jobs", "1"])
    assert result.exit_code == 2
    assert "a command plans at most 100000" in result.stderr
    assert list(tmp_path.iterdir()) == [path]


def test_runs_in_all() -> None:
    check_total(datasets=10, variants=100, runs=100)
    with pytest.raises(OptionError, match="make 100100 runs"):
        check_total(datasets=10, variants=10, runs=1001)


def test_labels() -> None:
    for label in ("a", "a.b", "..a", "tied 1/0.5/1", "x" * 120, "数字", "minus sim"):
        check_label(label)
    for label in ("", " ", ".", "...", "x" * 121, "a\tb", "a\u200bb", "\x7f", "a\u2028b"):
        with pytest.raises(OptionError, match="the label"):
            check_label(label)


def test_a_few_seconds_of_mutated_files() -> None:
    report = fuzz_plans.fuzz(10_000, seed=1, seconds=3)
    assert not report.faults
    assert report.outcomes["refused"] > 5
    assert report.slowest < fuzz_plans.SECONDS


def test_the_fuzz_notices_faults(monkeypatch) -> None:
    def run_and_fail(path: Path, *, allow_code: bool = False) -> None:
        (path.parent / fuzz_plans.CANARY).touch()
        raise KeyError(path.name)

    monkeypatch.setattr(fuzz_plans, "plan", run_and_fail)
    with pytest.raises(KeyError):
        fuzz_plans.fuzz(1)
    monkeypatch.setattr(fuzz_plans, "plan", lambda path: "planned")
    monkeypatch.setattr(
        fuzz_plans, "attempt", lambda work, **_: fuzzing.Outcome("slow", "late", 3.0, 1.0)
    )
    assert fuzz_plans.fuzz(2).faults == ["file 0: slow: late", "file 1: slow: late"]
