"""Data files that stand for more than they are, or for other files: one sentence, within bounds."""

import bz2
import gzip
import io
import lzma
import os
import resource
import socket
import struct
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from commands import call

from rcml_misa.datasets import bounds
from rcml_misa.datasets.bounds import LARGEST_VARIABLE, SizeBound
from rcml_misa.datasets.files import FileOptions, file_sha256, read_own_file, text_streams
from rcml_misa.datasets.files.hdf5 import Hdf5Guard
from rcml_misa.exceptions import DataError, OptionError, RcmlMisaError, bounded

h5py = pytest.importorskip("h5py")
phil = pytest.importorskip("h5py._objects").phil

ROWS = 40
LABELS = np.arange(ROWS) % 2
FACE = np.random.default_rng(0).normal(size=(ROWS, 4)) + LABELS[:, None]
WORDS = b"TOP SECRET BYTES OF ANOTHER FILE"


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def other_threads_may_read():
    """Whether h5py's lock is free, which blocks that are read ahead in a thread take."""
    with ThreadPoolExecutor(1) as thread:
        taken = thread.submit(lambda: phil.acquire(blocking=False) and (phil.release() or True))
        return taken.result()


def refusal(path, options=None):
    """Read a file that is refused at once, and return the sentence."""
    before, start = peak(), time.process_time()
    with pytest.raises(RcmlMisaError) as caught:
        read_own_file(path, options or FileOptions())
    assert time.process_time() - start < 5
    assert peak() - before < 500
    assert other_threads_may_read()  # while the error and its frames live
    text = str(caught.value)
    assert len(text) <= 300
    assert "\n" not in text
    return text


def hdf5(path, build):
    with h5py.File(path, "w") as file:
        build(file)
        if "y" not in file:
            file["y"] = LABELS
    return path


# HDF5: other files, the file itself, sizes


def link_outside(file):
    file["a"] = h5py.ExternalLink("secret.h5", "/a")


def link_through_a_link(file):
    file["b"] = FACE
    file["g/out"] = h5py.ExternalLink("secret.h5", "/a")
    file["a"] = h5py.SoftLink("/g/out")


def link_to_itself(file):
    file["b"] = FACE
    file["a"] = h5py.SoftLink("/a")


def links_in_a_circle(file):
    file["b"] = FACE
    file["a"], file["c"] = h5py.SoftLink("/c"), h5py.SoftLink("/a")


def link_nowhere(file):
    file["b"] = FACE
    file["a"] = h5py.SoftLink("/none")


def raw_storage(file):
    file.create_dataset("a", (ROWS, 8), dtype="u1", external=[("secret.txt", 0, ROWS * 8)])


def virtual(source):
    def build(file):
        layout = h5py.VirtualLayout((ROWS, 4), "f8")
        layout[:] = h5py.VirtualSource(source, "a", (ROWS, 4))
        file.create_virtual_dataset("a", layout)

    return build


def virtual_in_a_sparse_group(file):
    virtual(".")(file)
    file["m/data"] = file["a"]
    del file["a"]
    file["m/indices"] = file["m/indptr"] = np.arange(3)
    file["m"].attrs["shape"] = (2, 2)


def virtual_categories(file):
    virtual("secret.h5")(file)
    file["X"], file["var/v"] = FACE, np.arange(4)
    file["obs/y/codes"] = file["a"]
    file["obs/y/categories"] = np.arange(3)
    del file["a"]


OUTSIDE = {
    "an external link": (link_outside, "to another file"),
    "a link to an external link": (link_through_a_link, "to another file"),
    "a link to itself": (link_to_itself, "nowhere, or in a circle"),
    "links in a circle": (links_in_a_circle, "nowhere, or in a circle"),
    "a link nowhere": (link_nowhere, "nowhere, or in a circle"),
    "raw storage": (raw_storage, "in another file"),
    "a virtual data set of another file": (virtual("secret.h5"), "virtual data set"),
    "a virtual data set of itself": (virtual("."), "virtual data set"),
    "a virtual data set in a sparse group": (virtual_in_a_sparse_group, "virtual data set"),
    "virtual categories": (virtual_categories, "virtual data set"),
}


@pytest.mark.parametrize("end", ["h5", "h5ad", "mat"])
@pytest.mark.parametrize("case", OUTSIDE)
def test_an_hdf5_file_that_reads_others_is_refused(case, end, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.txt").write_bytes(WORDS * 100)
    hdf5(tmp_path / "secret.h5", lambda file: file.create_dataset("a", data=FACE))
    build, reason = OUTSIDE[case]
    text = refusal(hdf5(tmp_path / f"case.{end}", build))
    assert reason in text
    assert "SECRET" not in text


@pytest.mark.parametrize("name", ["case.h5", "case.mat"])
def test_each_command_refuses_a_virtual_data_set(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = hdf5(tmp_path / name, virtual("."))
    for words in (["datasets", "check", path], ["run", "--dataset", path, "--runs", "1"]):
        result = call(*words)
        assert result.exit_code == 2
        assert "virtual data set" in result.stderr


def test_links_within_a_file_and_groups_in_a_circle_are_read(tmp_path):
    def build(file):
        file["a"] = FACE
        file["g/up"] = file["/"]
        file["h/same"] = h5py.SoftLink("/a")

    own = read_own_file(hdf5(tmp_path / "case.h5", build), FileOptions())
    assert own.views.widths == (4,)


def test_an_unknown_filter_is_named(tmp_path):
    def build(file):
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((ROWS, 4))
        plan.set_filter(32123, h5py.h5z.FLAG_OPTIONAL, (1,))
        space = h5py.h5s.create_simple((ROWS, 4))
        h5py.h5d.create(file.id, b"a", h5py.h5t.NATIVE_DOUBLE, space, plan)

    text = refusal(hdf5(tmp_path / "case.h5", build))
    assert "filter 32123" in text
    assert "hdf5plugin" in text


def matlab_cells(file, name, members):
    cell = file.create_dataset(name, (1, len(members)), h5py.ref_dtype)
    cell.attrs["MATLAB_class"] = b"cell"
    cell[0] = [member.ref if member is not None else cell.ref for member in members]
    return cell


def cell_in_itself(file):
    matlab_cells(file, "a", [None, None])


def cells_in_a_circle(file):
    first = matlab_cells(file, "a", [None] * 8)
    second = matlab_cells(file, "b", [first] * 8)
    first[0] = [second.ref] * 8


def cells_that_double(file):
    inner = file.create_dataset("r0", data=FACE.T)
    inner.attrs["MATLAB_class"] = b"double"
    for number in range(1, 31):
        inner = matlab_cells(file, f"r{number}", [inner] * 2)


def groups_that_double(file):
    inner = file.create_group("r0")
    for number in range(1, 10):
        outer = file.create_group(f"r{number}")
        for part in range(8):
            outer[f"p{part}"] = inner
        inner = outer
    for group in file.values():
        group.attrs["MATLAB_class"] = b"struct"


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (cell_in_itself, "holds itself"),
        (cells_in_a_circle, "holds itself"),
        (cells_that_double, "again and again"),
        (groups_that_double, "again and again"),
    ],
)
def test_cells_that_never_end_are_refused(build, reason, tmp_path):
    assert reason in refusal(hdf5(tmp_path / "case.mat", build))


def test_what_a_reference_names_is_checked_too(tmp_path):
    path = hdf5(tmp_path / "case.h5", virtual("."))
    with h5py.File(path) as file, pytest.raises(DataError, match="virtual data set"):
        Hdf5Guard(path).follow(file, file["a"].ref)


def test_cells_are_read_as_before(tmp_path):
    def build(file):
        parts = [file.create_dataset(f"#refs#/{n}", data=FACE[:, n : n + 2].T) for n in (0, 2)]
        for part in (*parts, file.create_dataset("y", data=LABELS[None])):
            part.attrs["MATLAB_class"] = b"double"
        matlab_cells(file, "X", parts)

    own = read_own_file(hdf5(tmp_path / "case.mat", build), FileOptions())
    np.testing.assert_array_equal(own.views.arrays[1], FACE[:, 2:])


def declared(shape, **more):
    return lambda file: file.create_dataset("a", shape, "f8", **more)


@pytest.mark.parametrize(
    "build",
    [
        declared((ROWS, 2**42), chunks=(1, 2**16)),
        declared((ROWS, 5 * 10**7), chunks=(1, 2**16)),
        declared((2**40, 2), chunks=(1024, 2)),
        declared((ROWS, 10**8)),
        declared((ROWS, 2), maxshape=(None, 2), chunks=(2**25, 2)),
    ],
)
@pytest.mark.parametrize("end", ["h5", "mat"])
def test_sizes_that_an_hdf5_file_declares_are_bounded(build, end, tmp_path):
    assert "becomes" in refusal(hdf5(tmp_path / f"case.{end}", build))


def test_a_chunk_that_unpacks_to_more_than_it_says_is_refused(tmp_path):
    path = tmp_path / "case.h5"
    with h5py.File(path, "w") as file:
        file["y"] = LABELS
        face = file.create_dataset("a", (ROWS, 4), "f8", chunks=(ROWS, 4), compression="gzip")
        face.id.write_direct_chunk((0, 0), zlib.compress(bytes(2**28 + 2**24), 1))
    assert "more in the data set" in refusal(path)


def test_texts_that_are_one_text_are_counted(tmp_path):
    path = tmp_path / "case.h5"
    with h5py.File(path, "w") as file:
        file["y"], file["a"] = LABELS, FACE
        texts = file.create_dataset("t", (20_000,), h5py.string_dtype())
        texts[:] = "b"
        texts[0] = "x" * 60_000
        place = texts.id.get_offset()
    content = bytearray(path.read_bytes())
    content[place : place + 16 * 20_000] = content[place : place + 16] * 20_000
    path.write_bytes(content)
    assert "becomes" in refusal(path)


# packed and repeated content


def test_packed_text_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(text_streams, "LEAST_TEXT", 2**20)
    rows = b"a__0,y\n" + b"0,0\n1,1\n" * 2**18
    for end, pack in ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)):
        path = tmp_path / f"case.csv{end}"
        path.write_bytes(pack(rows))
        assert "becomes" in refusal(path)
    path = tmp_path / "case.csv.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", rows)
    assert "becomes" in refusal(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.csv", rows[:1000])
    assert "unusual packing" in refusal(path)


def test_members_of_npz_are_bounded(tmp_path):
    path = tmp_path / "case.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a.npy", "w") as member,
    ):
        header = {"descr": "<f8", "fortran_order": False, "shape": (ROWS, 2**20)}
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(ROWS * 2):
            member.write(bytes(2**22))
    assert "becomes" in refusal(path)


def test_many_members_are_refused(tmp_path):
    path = tmp_path / "case.npz"
    stream = io.BytesIO()
    np.save(stream, np.zeros((1, 1)))
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(bounds.MOST_MEMBERS + 1):
            archive.writestr(f"a{number}.npy", stream.getvalue())
    assert "parts" in refusal(path)


MATLAB = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x100) + b"IM"


def matlab(path, *elements, more=0):
    """Write a packed variable of these elements, and so many zeros after them."""
    inner = b"".join(
        struct.pack("<II", kind, len(e)) + e + bytes(-len(e) % 8) for kind, e in elements
    )
    packer = zlib.compressobj(1)
    parts = [packer.compress(struct.pack("<II", 14, len(inner)) + inner)]
    parts += [packer.compress(bytes(2**22)) for _ in range(more // 2**22)]
    packed = b"".join([*parts, packer.flush()])
    path.write_bytes(MATLAB + struct.pack("<II", 15, len(packed)) + packed)
    return path


def test_packed_variables_of_matlab_are_bounded(tmp_path):
    head = [(6, struct.pack("<II", 6, 0)), (5, struct.pack("<ii", ROWS, 2**20)), (1, b"a")]
    path = matlab(tmp_path / "case.mat", *head, (9, b"1234"), more=320 * 2**20)
    assert "becomes" in refusal(path)
    texts = [(6, struct.pack("<II", 4, 0)), (5, struct.pack("<ii", 2**30, 1)), (1, b"a")]
    assert "becomes" in refusal(matlab(tmp_path / "texts.mat", *texts, (16, b"")))


@pytest.mark.parametrize("kind", [0, 8, 10, 11, 14, 19, 2000])
def test_unknown_types_of_matlab_are_refused(kind, tmp_path):
    """SciPy ends the process at some of them."""
    head = [(6, struct.pack("<II", 6, 0)), (5, struct.pack("<ii", 2, 1)), (1, b"a")]
    text = refusal(matlab(tmp_path / "case.mat", *head, (kind, bytes(16))))
    assert "no whole MATLAB file" in text


def test_a_damaged_heap_of_texts_is_refused(tmp_path):
    """The library of HDF5 looks for a text in it for ever."""
    path = tmp_path / "case.h5"
    with h5py.File(path, "w") as file:
        file["a"], file["y"] = FACE, LABELS
        file["t"] = np.array(["some text"] * ROWS, dtype=object)
    content = bytearray(path.read_bytes())
    place = content.index(b"GCOL\1\0\0\0")
    assert read_own_file(path, FileOptions()).views.widths == (4,)
    content[place + 16 : place + 32] = bytes(16)
    path.write_bytes(content)
    assert "damaged in its texts" in refusal(path)


def test_attributes_of_many_values_are_not_read(tmp_path):
    def build(file):
        file["a"], file["y"] = FACE.T, LABELS[None]
        file["a"].attrs["MATLAB_class"] = b"double"
        file["y"].attrs["MATLAB_class"] = b"double"
        file["z"] = FACE.T
        file["z"].attrs.create("MATLAB_class", np.zeros(4000))

    assert read_own_file(hdf5(tmp_path / "case.mat", build), FileOptions()).views.names == ("a",)


def test_parquet_is_bounded(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    numbers, texts = tmp_path / "numbers.parquet", tmp_path / "texts.parquet"
    zeros = pa.table({"a__0": np.zeros(10**6), "y": np.zeros(10**6, dtype=np.int8)})
    with pq.ParquetWriter(numbers, zeros.schema, compression="zstd") as writer:
        for _ in range(20):
            writer.write_table(zeros)
    assert "becomes" in refusal(numbers)
    word = pa.DictionaryArray.from_arrays(np.zeros(10**4, dtype=np.int32), ["x" * 10**5])
    pq.write_table(pa.table({"a__0": word, "y": np.zeros(10**4)}), texts)
    assert "becomes" in refusal(texts)


def test_sheets_are_bounded_by_the_cells_that_they_span(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    path = tmp_path / "case.xlsx"
    book = openpyxl.Workbook()
    book.active["A1"], book.active["XFD1"], book.active["A1048576"] = "y", "a", 1
    book.save(path)
    assert "becomes" in refusal(path)
    small = tmp_path / "small.xlsx"
    pd.DataFrame({"a__0": FACE[:, 0], "y": LABELS}).to_excel(small, index=False)
    assert read_own_file(small, FileOptions()).views.n_samples == ROWS


def test_the_bound_follows_the_file_and_can_be_raised(tmp_path, monkeypatch):
    path = tmp_path / "case.npz"
    path.write_bytes(bytes(10**7))
    bound = SizeBound(path)
    bound.spend(10**9)
    with pytest.raises(DataError, match=f"{LARGEST_VARIABLE}=2"):
        bound.spend(1)
    monkeypatch.setenv(LARGEST_VARIABLE, "2")
    SizeBound(path).spend(2 * 10**9)
    monkeypatch.setenv(LARGEST_VARIABLE, "much")
    with pytest.raises(OptionError, match="no number of gigabytes"):
        SizeBound(path)


def test_well_packed_honest_tables_are_read(tmp_path):
    path = tmp_path / "case.npz"
    np.savez_compressed(path, a=np.c_[FACE, np.zeros((ROWS, 50_000))], y=LABELS)
    assert path.stat().st_size * 100 < ROWS * 50_000 * 8
    assert read_own_file(path, FileOptions()).views.widths == (50_004,)


# what is no file


def pipe(path):
    os.mkfifo(path)


def listener(path):
    home = os.getcwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(home)


def zeros(path):
    path.symlink_to("/dev/zero")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
@pytest.mark.parametrize("kind", [pipe, listener, zeros])
def test_pipes_sockets_and_devices_are_refused(kind, tmp_path):
    rows = "\n".join(f"{value},{label}" for value, label in zip(FACE[:, 0], LABELS, strict=True))
    good = tmp_path / "good.csv"
    good.write_text(f"a__0,y\n{rows}\n")
    for end in ("csv", "csv.gz", "npz", "mat", "h5", "parquet", "xlsx"):
        path = tmp_path / f"case.{end}"
        kind(path)
        assert "give a regular file" in refusal(path)
        with pytest.raises(DataError, match="regular file"):
            file_sha256(path)
    path = tmp_path / "case.csv"
    assert "regular file" in refusal(good, FileOptions(test_file=str(path)))
    plan = tmp_path / "plan.toml"
    kind(plan)
    for words in (
        ["run", "--dataset", path, "--runs", 1],
        ["compare", "--dataset", path, "--methods", "majority", "--runs", 2],
        ["fit", "--dataset", path, "--out", tmp_path / "a.rcml"],
        ["datasets", "check", path],
        ["datasets", "add", path, "--name", "odd"],
        ["datasets", "import", path, "--name", "odd"],
        ["run", "--dataset", good, "--test-file", path, "--runs", 1],
        ["experiment", plan],
        ["plot", "uncertainty", path, "--out", tmp_path / "a.png"],
    ):
        result = call(*words)
        assert result.exit_code == 2, (words, result.output)
        assert len(result.stderr.splitlines()) == 1, words


def test_a_pipe_among_the_tables_of_a_folder_is_left_out(tmp_path):
    for name, column in (("a", 0), ("b", 1)):
        frame = pd.DataFrame({"id": [f"r{n}" for n in range(ROWS)], "x": FACE[:, column]})
        if name == "b":
            frame["y"] = LABELS
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    os.mkfifo(tmp_path / "c.csv")
    assert read_own_file(tmp_path, FileOptions()).views.names == ("a", "b")


@pytest.mark.parametrize("name", ["a" * 300 + ".csv", "odd\nname.csv", "."])
def test_odd_names_are_one_sentence(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call("datasets", "check", name)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert len(result.stderr) < 310


# lines and cells


@pytest.mark.parametrize(
    "content",
    [
        b"1" * 10**8,
        b"," * 10**8,
        b'"' * 10**8,
        b"a" * 10**8 + b",y\n1,p\n2,q\n",
        b"#" + b"c" * 10**8 + b"\na,y\n1,p\n",
        b"a__0,y\n1,p\n2,q\n" + b"," * 10**8 + b"\n",
        b'a__0,y\n1,p\n2,q\n3,"' + b"x" * 10**8 + b'"\n',
    ],
    ids=["digits", "commas", "quotes", "header cell", "comment", "row of commas", "cell"],
)
def test_a_line_of_a_hundred_megabytes_is_refused(content, tmp_path):
    path = tmp_path / "case.csv"
    path.write_bytes(content)
    assert "has a line of more than" in refusal(path)


def test_whole_numbers_beyond_those_of_floats_are_gaps(tmp_path):
    path = tmp_path / "case.csv"
    values = ["9" * 400, *map(str, range(1, 20))]
    path.write_text(
        "a__0,b__0,y\n" + "".join(f"{v},{len(v)},{i % 2}\n" for i, v in enumerate(values))
    )
    assert read_own_file(path, FileOptions()).views.n_samples == 20


def test_lists_in_parquet_are_set_aside(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "case.parquet"
    pq.write_table(pa.table({"a__0": [[1.0, 2.0]] * ROWS, "a__1": FACE[:, 0], "y": LABELS}), path)
    result = call("datasets", "check", path)
    assert result.exit_code == 0, result.stderr


# sentences


def test_no_error_is_longer_than_three_hundred_characters():
    text = "there is no column " + "x" * 10**6 + "; choose another one."
    for kind in (RcmlMisaError, DataError, OptionError):
        shown = str(kind(text))
        assert len(shown) == 300
        assert shown.startswith("there is no column xxx")
        assert shown.endswith("choose another one.")
    assert str(DataError("short.")) == "short."
    assert bounded("a" * 300) == "a" * 300


def test_long_names_in_files_are_cut_in_errors(tmp_path):
    path = tmp_path / "case.csv"
    name = "n" * 5000
    path.write_text(f"{name},{name},y\n1,2,p\n2,3,q\n")
    assert "two columns" in refusal(path)
    np.savez(tmp_path / "case.npz", **{name: FACE[:3], "y": LABELS})
    refusal(tmp_path / "case.npz")
