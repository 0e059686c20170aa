"""MMSA's and UR_FUNNY's files: what is read, kept, mended and refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from foreign_files import ROWS, mmsa, save, urfunny
from numpy.testing import assert_array_equal

from rcml_misa.cli import main
from rcml_misa.datasets import FileOptions, add_own, find_entry, list_datasets, load_dataset, locate
from rcml_misa.datasets import imported as imported_module
from rcml_misa.datasets.catalogue import list_imported
from rcml_misa.datasets.foreign import read_mmsa, read_urfunny
from rcml_misa.datasets.foreign.layout import read_words
from rcml_misa.datasets.imported import import_dataset
from rcml_misa.estimators.misa import MISAClassifier, MISARegressor
from rcml_misa.estimators.view_networks import input_options
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.reading.inputs import ViewReaders
from rcml_misa.views import Texts, TokenTexts

FOLDS = ("train", "valid", "test")
WRITERS = [(0, False), (2, False), (2, True), (3, False), (4, False), (5, False)]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("RCML_MISA_DATA", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache")


def call(*words: object) -> Result:
    return CliRunner().invoke(main, ["datasets", *map(str, words)])


def joined(content, key):
    return np.concatenate([np.asarray(content[fold][key]) for fold in FOLDS])


# MMSA


@pytest.mark.parametrize(("protocol", "python2"), WRITERS)
def test_npz_holds_the_pickle_bitwise(tmp_path, protocol, python2) -> None:
    content = mmsa()
    path = save(tmp_path / "unaligned_50.pkl", content, protocol=protocol, python2=python2)
    report = import_dataset(path, "mine")
    kept = np.load(report.path, allow_pickle=False)
    for key, name in {
        "text": "steps.text",
        "audio": "steps.audio",
        "vision": "steps.vision",
        "text_bert": "tokens",
        "regression_labels": "target",
        "classification_labels": "classification_labels",
    }.items():
        wanted = joined(content, key)
        assert kept[name].dtype == wanted.dtype
        assert kept[name].tobytes() == wanted.tobytes(), key
    for key, name in {"id": "ids", "raw_text": "texts", "annotations": "annotations"}.items():
        assert read_words(kept[name]) == joined(content, key).tolist()
    assert_array_equal(kept["lengths.audio"], joined(content, "audio_lengths"))
    assert_array_equal(kept["lengths.vision"], joined(content, "vision_lengths"))
    assert_array_equal(kept["fold"], np.repeat([0, 1, 2], list(ROWS.values())))
    assert (report.rows, report.mended, report.notes) == (ROWS, {}, ())


def test_loaded_set_has_views_folds_videos_and_scores(tmp_path) -> None:
    content = mmsa()
    import_dataset(save(tmp_path / "x.pkl", content), "mine")
    data = load_dataset("mine")
    assert (data.name, data.task, data.classes) == ("mine", "regression", ())
    assert data.views.names == ("text", "audio", "vision")
    assert data.views.kinds == ("sequence",) * 3
    assert data.views.widths == (12, 5, 7)
    assert_array_equal(data.views["audio"].values, joined(content, "audio"))
    assert_array_equal(data.target, joined(content, "regression_labels").astype(np.float64))
    assert {fold: len(rows) for fold, rows in data.folds.items()} == ROWS
    assert data.groups[:5].tolist() == ["video0"] * 4 + ["video1"]
    assert data.ids[1] == "video0$_$1"
    assert data.views["text"].lengths[0] == content["train"]["text_bert"][0, 1].sum()


def test_aligned_files_have_the_texts_lengths(tmp_path) -> None:
    content = mmsa(aligned=True)
    import_dataset(save(tmp_path / "aligned_50.pkl", content), "aligned")
    views = load_dataset("aligned").views
    for name in views:
        assert_array_equal(views[name].lengths, joined(content, "text_bert")[:, 1].sum(axis=1))


def test_lengths_come_from_the_values_where_nothing_gives_them(tmp_path) -> None:
    content = mmsa()
    for fold in FOLDS:
        for key in ("text_bert", "audio_lengths", "vision_lengths"):
            del content[fold][key]
        content[fold]["audio"][3] = 0
    import_dataset(save(tmp_path / "x.pkl", content), "bare")
    views = load_dataset("bare").views
    for name in views:
        used = (joined(content, name) != 0).any(axis=2)
        last = used.shape[1] - used[:, ::-1].argmax(axis=1)
        assert_array_equal(views[name].lengths, np.where(used.any(axis=1), last, 1))
    assert views["audio"].lengths[3] == 1


def test_values_that_are_no_numbers_are_counted_and_zero(tmp_path) -> None:
    content = mmsa()
    content["train"]["audio"][0, 0, 1] = -np.inf
    content["test"]["audio"][2, 1, :3] = np.nan
    content["valid"]["vision"][1, 0, 0] = np.inf
    report = import_dataset(save(tmp_path / "x.pkl", content), "mine")
    assert report.mended == {"audio": 4, "vision": 1}
    wanted = joined(content, "audio")
    kept = np.load(report.path)["steps.audio"]
    finite = np.isfinite(wanted)
    assert_array_equal(kept[finite], wanted[finite])
    assert (kept[~finite] == 0).all()
    assert (
        "audio: 4 values were NaN or infinite and are 0 now"
        in call("import", tmp_path / "x.pkl", "--as", "mine", "--replace").stdout
    )


def test_lengths_out_of_range_are_clipped_and_told(tmp_path) -> None:
    content = mmsa()
    content["train"]["audio_lengths"][0] = 0
    content["test"]["audio_lengths"][1] = 900
    report = import_dataset(save(tmp_path / "x.pkl", content), "mine")
    assert report.notes == ("2 lengths of audio lay outside 1 to 15 and were clipped",)


def test_sims_is_known_by_its_labels(tmp_path) -> None:
    found = read_mmsa(save(tmp_path / "unaligned_39.pkl", mmsa(sims=True)))
    assert (found.title, found.limit) == ("CH-SIMS", 1.0)
    assert {"regression_labels_T", "regression_labels_A", "regression_labels_V"} < set(found.others)


def test_published_sha256_is_told_and_another_is_not_fatal(tmp_path, monkeypatch) -> None:
    path = save(tmp_path / "x.pkl", mmsa())
    first = call("import", path, "--as", "one")
    assert first.exit_code == 0
    assert "source: none of the published files that are known, sha256 " in first.stdout
    sha256 = json.loads(call("import", path, "--as", "two", "--json").stdout)["source_sha256"]
    monkeypatch.setattr(imported_module, "PUBLISHED", {sha256: "MOSI/unaligned_50.pkl"})
    again = call("import", path, "--as", "three")
    assert "source: the published MOSI/unaligned_50.pkl" in again.stdout


@pytest.mark.parametrize("text", ["raw", "tokens"])
def test_text_can_be_words_or_token_numbers(tmp_path, text) -> None:
    content = mmsa()
    import_dataset(save(tmp_path / "x.pkl", content), "mine", text=text)
    view = load_dataset("mine").views["text"]
    assert isinstance(view, TokenTexts if text == "tokens" else Texts)
    assert list(view)[:2] == content["train"]["raw_text"][:2]
    if text == "tokens":
        length = int(content["train"]["text_bert"][0, 1].sum())
        assert_array_equal(view.tokens[0], content["train"]["text_bert"][0, 0, :length])
        assert_array_equal(view[[2, 0]].tokens[1], view.tokens[0])


@pytest.mark.parametrize(
    ("sims", "columns"),
    [
        (False, "MAE Corr Acc-7 Acc-5 Acc-2 Has0 Acc-2 Non0 F1 Has0 F1 Non0"),
        (True, "MAE Corr Acc-5 Acc-3 Acc-2 F1"),
    ],
)
def test_ten_runs_of_a_regression_print_every_measure(tmp_path, sims, columns) -> None:
    path = save(tmp_path / "x.pkl", mmsa(sims=sims))
    assert call("import", path, "--as", "MOSI-MMSA").exit_code == 0
    words = "run --dataset MOSI-MMSA --method misa --task regression --runs 10 --jobs 1 --epochs 1"
    small = "--set hidden=8 --set sequence_encoder=mean"
    result = CliRunner().invoke(main, f"{words} {small}".split())
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("MOSI-MMSA")
    heading = ": 10 runs, seeds 0 to 9, given split (60 train, 20 valid, 24 test rows)"
    assert heading in " ".join(result.stdout.split())
    lines = result.stdout.splitlines()
    heads = [line.removeprefix("method") for line in lines if line.startswith("method")]
    assert " ".join(" ".join(heads).split()).removesuffix(" s/run") == columns  # folded at 80 wide
    cells = [cell for line in lines if "  mean  " in line for cell in line.split()]
    assert len(cells) > len(heads)
    assert "-" not in cells


def test_planted_scores_are_learned_from_an_imported_file(tmp_path) -> None:
    import_dataset(save(tmp_path / "x.pkl", mmsa()), "mine")
    data = load_dataset("mine")
    model = MISARegressor(hidden=16, epochs=12, random_state=0)
    train, valid, test = (data.folds[fold] for fold in FOLDS)
    model.fit(
        data.views.take(train),
        data.target[train],
        validation=(data.views.take(valid), data.target[valid]),
    )
    error = np.abs(model.predict(data.views.take(test)) - data.target[test]).mean()
    assert error < 0.6 * np.abs(data.target[test] - data.target[train].mean()).mean()


def test_token_numbers_are_what_a_pretrained_encoder_reads(tmp_path) -> None:
    content = mmsa()
    import_dataset(save(tmp_path / "x.pkl", content), "mine", text="tokens")
    data = load_dataset("mine")
    words = data.views.replace({"text": Texts(["so good"] * data.views.n_samples)}).take([0, 1])
    known = [[101, 2061, 2204, 102]] * 2  # the packaged model's numbers of these words
    tokens = words.replace({"text": TokenTexts(["?", "?"], known)})
    how = input_options(MISARegressor(text_layers=0))
    device = torch.device("cpu")
    from_words, from_tokens = (
        ViewReaders.fit(views, how, device=device).read(views).views[0].values
        for views in (words, tokens)
    )
    torch.testing.assert_close(from_words, from_tokens, rtol=0, atol=0)
    strange = words.replace({"text": TokenTexts(["?", "?"], [[10**6], [1]])})
    with pytest.raises(DataError, match="knows 30522 tokens"):
        ViewReaders.fit(strange, how, device=device).read(strange)


def put(fold, **values):
    return lambda content: content[fold].update(values)


def broken(change):
    content = mmsa()
    change(content)
    return content


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda c: c.pop("valid"), ("no MMSA file", "train, test")),
        (lambda c: c["test"].pop("audio"), ("no 'audio' in 'test'",)),
        (lambda c: c["test"].pop("id"), ("no 'id' in 'test'",)),
        (
            lambda c: c["test"].update(audio=np.zeros((24, 15, 4))),
            ("'audio' of 'test'", "(24, 15, 5)"),
        ),
        (
            lambda c: c["train"].update(text=np.zeros((60, 12))),
            ("'text' of 'train'", "3 dimensions"),
        ),
        (lambda c: c["train"].update(text=np.zeros((59, 10, 12))), ("(59, 10, 12)",)),
        (put("train", raw_text=["x"]), ("'raw_text' of 'train' has 1 entries",)),
        (put("valid", id=[["x"]] * 20), ("'id' of 'valid' holds list",)),
        (put("valid", id="x"), ("'id' of 'valid' is str",)),
        (put("valid", audio_lengths=[1.5] * 20), ("'audio_lengths' of 'valid'",)),
        (put("valid", audio_lengths=["x"] * 20), ("'audio_lengths' of 'valid'",)),
        (
            lambda c: c["valid"]["regression_labels"].fill(np.nan),
            ("'regression_labels' of 'valid'",),
        ),
        (lambda c: c["valid"]["text_bert"].fill(0.5), ("'text_bert' of 'valid'",)),
        (put("valid", vision=np.array(["x"] * 20)), ("'vision' of 'valid'", "<U1")),
        (put("valid", vision=[[1], [1, 2]]), ("'vision' of 'valid' is no array",)),
    ],
)
def test_other_layouts_are_refused_by_fold_and_key(tmp_path, change, parts) -> None:
    path = save(tmp_path / "x.pkl", broken(change))
    result = call("import", path, "--as", "mine")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert all(part in result.stderr for part in (str(path), *parts)), result.stderr
    assert list_imported() == ()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--as", "PIE"), ("there is a data set PIE already",)),
        (("--as", "../x"), ("'../x' is no name",)),
        (("--as", "mine", "--text", "tokens"), ("no token numbers", "--text states")),
        (("--as", "mine", "--text", "vectors"), ("'vectors'",)),
        ((), ("--as",)),
    ],
)
def test_names_and_options(tmp_path, words, parts) -> None:
    content = mmsa()
    for fold in FOLDS:
        del content[fold]["text_bert"]
    result = call("import", save(tmp_path / "x.pkl", content), *words)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert all(part in result.stderr for part in parts), result.stderr


def test_imported_set_is_listed_shown_found_and_replaced(tmp_path) -> None:
    path = save(tmp_path / "x.pkl", mmsa())
    assert call("import", path, "--as", "MOSI-MMSA").exit_code == 0
    again = call("import", path, "--as", "MOSI-MMSA")
    assert again.exit_code == 2
    assert "--replace" in again.stderr
    assert call("import", path, "--as", "MOSI-MMSA", "--replace").exit_code == 0
    assert "MOSI-MMSA" in call().stdout
    shown = json.loads(call("show", "MOSI-MMSA", "--json").stdout)
    assert (shown["status"], shown["samples"]) == ("here", 104)
    assert call("fetch", "MOSI-MMSA").exit_code == 0
    with pytest.raises(OptionError, match="did you mean MOSI-MMSA"):
        find_entry("MOSI-MMSAA")


def test_damaged_records_and_files_are_told(tmp_path) -> None:
    report = import_dataset(save(tmp_path / "x.pkl", mmsa()), "mine")
    kept = report.path.read_bytes()
    report.path.write_bytes(kept[:-9])
    with pytest.raises(DataError, match="sha256"):
        load_dataset("mine")
    report.path.unlink()
    with pytest.raises(DataError, match="import it again"):
        load_dataset("mine")
    assert locate("mine") == "gone"
    assert "file is gone" in call("show", "mine").stdout
    report.path.with_suffix(".json").write_text("{")
    with pytest.raises(DataError, match="delete it"):
        find_entry("mine")


def test_own_and_imported_sets_share_their_names(tmp_path) -> None:
    path = save(tmp_path / "x.pkl", mmsa())
    import_dataset(path, "mine")
    table = tmp_path / "a.csv"
    table.write_text("a,y\n1,x\n2,y\n3,x\n")
    with pytest.raises(OptionError, match="there is a data set mine already"):
        add_own("mine", table, FileOptions())
    add_own("yours", table, FileOptions())
    with pytest.raises(OptionError, match="there is a data set yours already"):
        import_dataset(path, "yours", replace=True)
    assert [entry.name for entry in list_datasets(users=True)][-2:] == ["mine", "yours"]
    assert (locate("mine"), locate("yours")) == ("here", "here")
    with pytest.raises(OptionError, match="did you mean yours"):
        find_entry("yuors")
    table.unlink()
    assert locate("yours") == "gone"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"samples": "many"}, "samples='many'; give a whole number"),
        ({"extra": 1}, "unknown key 'extra'"),
        ({"views": {"a": 1.5}}, "views.a=1.5; give a whole number"),
    ],
)
def test_records_of_imports_are_checked(tmp_path, change, words) -> None:
    report = import_dataset(save(tmp_path / "x.pkl", mmsa()), "mine")
    record = report.path.with_suffix(".json")
    record.write_text(json.dumps(json.loads(record.read_text()) | change))
    with pytest.raises(DataError, match=words) as caught:
        load_dataset("mine")
    assert "delete it and import mine again" in str(caught.value)
    assert len(str(caught.value)) <= 300


def test_absent_and_foreign_paths(tmp_path) -> None:
    assert "does not exist" in call("import", tmp_path / "none.pkl", "--as", "x").stderr
    empty = tmp_path / "empty.pkl"
    empty.touch()
    assert "no file with content" in call("import", empty, "--as", "x").stderr
    (tmp_path / "zip.pkl").write_bytes(b"PK\x03\x04")
    assert "zip archive" in call("import", tmp_path / "zip.pkl", "--as", "x").stderr


# UR_FUNNY


@pytest.mark.parametrize(
    ("version", "arrays", "protocol", "python2"),
    [(2, False, 4, False), (2, True, 2, True), (1, False, 2, True), (1, True, 0, False)],
)
def test_urfunny_comes_through_whole(tmp_path, version, arrays, protocol, python2) -> None:
    content = urfunny(
        tmp_path / "urfunny", version=version, arrays=arrays, protocol=protocol, python2=python2
    )
    report = import_dataset(tmp_path / "urfunny", "UR_FUNNY")
    assert report.rows == {"train": 36, "valid": 12, "test": 12}
    data = load_dataset("UR_FUNNY")
    assert (data.task, data.classes) == ("classification", ("0", "1"))
    assert data.views.widths == (30, 81, 371 if version == 2 else 75)
    ids = [str(one) for fold in content["data_folds"].values() for one in fold]
    assert data.ids.tolist() == ids
    assert data.target.tolist() == [content["humor_label_sdk"][one] for one in ids]
    vectors = np.asarray(content["word_embedding_list"])
    language = content.get("language_sdk", content.get("word_embedding_indexes_sdk"))
    for row, one in enumerate(ids):
        numbers = language[one]["punchline_embedding_indexes"]
        view = data.views["text"][[row]]
        assert_array_equal(view.values[0, : view.lengths[0]], vectors[numbers])
        for name, part in (("audio", "covarep"), ("vision", "openface")):
            wanted = np.asarray(content[f"{part}_features_sdk"][one]["punchline_features"])
            view = data.views[name][[row]]
            assert_array_equal(view.values[0, : view.lengths[0]], wanted)


def test_urfunny_with_context_and_as_words(tmp_path) -> None:
    content = urfunny(tmp_path / "urfunny", numbers=True)
    import_dataset(tmp_path / "urfunny", "whole", context=True, text="raw")
    data = load_dataset("whole")
    first = content["data_folds"]["train"][0]
    assert next(iter(data.views["text"])) == f"one two three four words {first}"
    audio = content["covarep_features_sdk"][first]
    wanted = np.concatenate(
        [*map(np.asarray, audio["context_features"]), np.asarray(audio["punchline_features"])]
    )
    view = data.views["audio"][[0]]
    assert_array_equal(view.values[0, : view.lengths[0]], wanted)


def test_planted_labels_are_learned_from_urfunny(tmp_path) -> None:
    urfunny(tmp_path / "urfunny", version=1)
    import_dataset(tmp_path / "urfunny", "funny")
    data = load_dataset("funny")
    train, test = data.folds["train"], data.folds["test"]
    model = MISAClassifier(hidden=16, epochs=8, sequence_encoder="mean", random_state=0)
    model.fit(data.views.take(train), data.target[train])
    assert model.score(data.views.take(test), data.target[test]) > 0.8


def drop(name, one):
    return lambda content: content[name].pop(one)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (drop("covarep_features_sdk", "103"), ("103 is not in covarep_features_sdk.pkl",)),
        (drop("openface_features_sdk", "150"), ("150 is not in openface_features_sdk.pkl",)),
        (drop("humor_label_sdk", "101"), ("101 is not in humor_label_sdk.pkl",)),
        (drop("language_sdk", "159"), ("159 is not in language_sdk.pkl",)),
        (lambda c: c["humor_label_sdk"].update({"104": 2}), ("104", "other than 0 and 1")),
        (
            lambda c: c["covarep_features_sdk"]["105"]["punchline_features"].append([0.0] * 81),
            ("105 has different or impossible numbers of words",),
        ),
        (
            lambda c: c["language_sdk"]["106"].update(punchline_embedding_indexes=[0, 40]),
            ("106 has word numbers outside 0 to 39",),
        ),
        (
            lambda c: c["covarep_features_sdk"]["107"].update(
                punchline_features=[[1.0], [1.0, 2.0]]
            ),
            ("107 has audio features of different widths",),
        ),
        (lambda c: c["openface_features_sdk"].update({"108": []}), ("108", "punchline_features")),
    ],
)
def test_incomplete_punchlines_are_refused_by_name_or_left_out(tmp_path, change, parts) -> None:
    urfunny(tmp_path / "urfunny", change=change)
    result = call("import", tmp_path / "urfunny", "--as", "funny")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert all(part in result.stderr for part in (*parts, "--leave-out-incomplete"))
    found = read_urfunny(tmp_path / "urfunny", leave_out_incomplete=True)
    assert len(found.ids) == 59
    assert found.notes == ("1 incomplete punchlines were left out",)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda c: c["data_folds"].pop("dev"), "'dev'"),
        (lambda c: c["data_folds"].update(dev=c["data_folds"]["test"]), "an id twice"),
        (lambda c: c["data_folds"].update(dev=[]), "an empty fold"),
        (lambda c: c.update(word_embedding_list=[[1.0], [1.0, 2.0]]), "differ in width"),
        (lambda c: c.update(word_embedding_list=[1.0]), "words by numbers"),
        (lambda c: c.update(humor_label_sdk=[1, 0]), "humor_label_sdk.pkl holds no dict"),
    ],
)
def test_other_urfunny_folders_are_refused(tmp_path, change, part) -> None:
    urfunny(tmp_path / "urfunny", change=change)
    with pytest.raises(DataError, match=part):
        read_urfunny(tmp_path / "urfunny")
    (tmp_path / "urfunny" / "data_folds.pkl").unlink()
    with pytest.raises(DataError, match=r"has no data_folds\.pkl"):
        read_urfunny(tmp_path / "urfunny")


def test_rows_that_are_shared_do_not_grow_without_end(tmp_path) -> None:
    def share(content) -> None:
        row = [0.0] * 81
        rows = [row] * 900
        for one in content["covarep_features_sdk"]:
            content["covarep_features_sdk"][one] = {
                "punchline_features": [],
                "context_features": [rows] * 100,
            }
            content["openface_features_sdk"][one] = content["covarep_features_sdk"][one]
            content["language_sdk"][one] |= {
                "punchline_embedding_indexes": [],
                "context_embedding_indexes": [[0] * 900] * 100,
            }

    urfunny(tmp_path / "urfunny", change=share)
    with pytest.raises(DataError, match="again and again"):
        read_urfunny(tmp_path / "urfunny", context=True)


# sentences

LONG = "x\n" * 100_000


@pytest.mark.parametrize(
    "change",
    [
        lambda c: (c.pop("valid"), c.update({LONG: 1})),
        lambda c: (c["test"].pop("audio"), c["test"].update({LONG: 1})),
        lambda c: (c["test"].pop("audio"), c["test"].update(dict.fromkeys(range(10_000)))),
        put("valid", audio_lengths=[LONG] * 20),
    ],
)
def test_no_sentence_quotes_a_long_key_or_value(tmp_path, change) -> None:
    path = save(tmp_path / "x.pkl", broken(change))
    with pytest.raises(DataError) as caught:
        read_mmsa(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= len(str(path)) + 300


def test_no_sentence_quotes_a_long_id(tmp_path) -> None:
    urfunny(tmp_path / "urfunny", change=lambda c: c["data_folds"]["train"].append(LONG))
    with pytest.raises(DataError) as caught:
        read_urfunny(tmp_path / "urfunny")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= len(str(tmp_path)) + 300
