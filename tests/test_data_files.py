"""The user's own files, IDX, npz and csv, and every way in which they can be wrong: one line that names the file."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from stabsim.cli import main
from stabsim.datasets import MNIST_DIRECTORY, DataError, dataset, load, mnist_at_hand, split
from stabsim.datasets.idx import read_idx
from stabsim.outputs import measurements_file
from stabsim.running import run_study
from stabsim.study import Case, Study

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
Edit = Callable[[bytes], bytes]


def idx(array: NDArray[Any]) -> bytes:
    """Return the bytes of an IDX file."""
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def parts() -> dict[str, bytes]:
    """Return the four files, of 30 and 20 images, with labels in turn."""
    pixels = np.random.default_rng(0).integers(0, 256, (50, 28, 28))
    labels = np.arange(50) % 10
    return dict(zip(FILES, map(idx, (pixels[:30], labels[:30], pixels[30:], labels[30:])), strict=True))


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([1, 3]), st.data())
def test_idx_files_go_around(tmp_path: Path, sides: int, data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 5)] * sides))
    array = data.draw(arrays(np.uint8, shape))
    for name, content in (("file", idx(array)), ("file.gz", gzip.compress(idx(array), 1))):
        (tmp_path / name).write_bytes(content)
        np.testing.assert_array_equal(read_idx(tmp_path / name, sides), array)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40), st.sampled_from(["file", "file.gz"]))
def test_whatever_an_idx_file_holds_the_error_is_one_line(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="file") as caught:  # no 40 bytes make a header and what it says
        read_idx(tmp_path / name, 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_the_four_files_under_every_name(mark: str, ending: str, tmp_path: Path) -> None:
    files = {name.replace("-idx", f"{mark}idx") + ending: content for name, content in parts().items()}
    if ending:
        files = {name: gzip.compress(content, 1) for name, content in files.items()}
    found = split("mnist", directory=write(tmp_path, files))
    whole = np.frombuffer(parts()[FILES[0]], np.uint8, offset=16).reshape(30, 784) / 255.0
    np.testing.assert_array_equal(found.train[0], whole)
    np.testing.assert_array_equal(found.test[1].argmax(axis=1), np.arange(30, 50) % 10)
    assert (
        found.told == "mnist: 30 samples for training, 20 for testing (official split), 10 classes, 784 features (unit)"
    )
    np.testing.assert_array_equal(dataset("mnist", directory=tmp_path), np.concatenate((found.train[0], found.test[0])))


def test_fewer_samples_keep_to_the_official_parts(tmp_path: Path) -> None:
    found = split("mnist", directory=write(tmp_path, parts()), samples=25, scale="raw")
    assert "(official split, drawn with seed 0)" in found.told
    both = np.frombuffer(parts()[FILES[0]][16:] + parts()[FILES[2]][16:], np.uint8).reshape(50, 784)
    for (inputs, targets), inside, count in ((found.train, both[:30], 15), (found.test, both[30:], 10)):
        assert len(inputs) == count and set(targets.sum(axis=0)) <= {1.0, 2.0}
        assert all((inside == row).all(axis=1).any() for row in inputs)


def test_the_folder_is_told_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MNIST_DIRECTORY, raising=False)
    assert mnist_at_hand() == "mnist5k"
    with pytest.raises(ValueError, match=r"name their folder with directory=\.\.\., --mnist-dir or STABSIM_MNIST_DIR"):
        split("mnist")
    monkeypatch.setenv(MNIST_DIRECTORY, str(tmp_path))
    assert mnist_at_hand() == "mnist"
    write(tmp_path / "fashion_mnist", parts())
    assert split("fashion_mnist").classes[9] == "Ankle boot"
    with pytest.raises(ValueError, match=r"needs train-images-idx3-ubyte or train-images-idx3-ubyte\.gz in .*: put"):
        split("mnist")


def cut(content: bytes) -> bytes:
    return content[:-1]


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        (0, cut, r"train-images-idx3-ubyte is truncated: 23519 of the 23520 bytes that its header says"),
        (0, lambda _: b"", "train-images-idx3-ubyte is empty"),
        (0, lambda content: content[:9], "is truncated: 9 bytes, fewer than the 16 of its header"),
        (0, lambda content: content + b"0", "is too long: more than the 23520 bytes"),
        (0, lambda content: b"\0\0\r\3" + content[4:], "must start with 00 00 08 03, as images .*, not 00 00 0d 03"),
        (0, lambda _: parts()[FILES[1]], "not 00 00 08 01"),
        (0, gzip.compress, r"not 1f 8b 08 00: compressed, so its name must end with \.gz"),
        (0, lambda content: content[:4] + b"\xff" * 12 + content[16:], "is truncated: 23520 of the 79228162458924105"),
        (0, lambda _: idx(np.zeros((0, 28, 28))), "has no images: its header says 0 x 28 x 28"),
        (0, lambda _: idx(np.zeros((30, 28, 27))), "has images of 28 x 27 pixels, not 28 x 28"),
        (1, lambda _: idx(np.zeros(29)), "labels-idx1-ubyte has 29 labels for the 30 images of train-images"),
        (3, lambda _: idx(np.arange(20)), "t10k-labels-idx1-ubyte must have labels from 0 to 9, but label 10 is 10"),
    ],
)  # fmt: skip
def test_malformed_idx_files(file: int, edit: Edit, message: str, tmp_path: Path) -> None:
    files = parts()
    files[FILES[file]] = edit(files[FILES[file]])
    with pytest.raises(ValueError, match=message) as caught:
        split("mnist", directory=write(tmp_path, files))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (cut, "is truncated: its gzip stream ends early"),
        (lambda content: content[:-8] + bytes(8), "is no intact gzip file: CRC check failed"),
        (lambda content: content[:10] + b"\xff" + content[11:], "is no intact gzip file: Error -3"),
        (lambda _: parts()[FILES[0]], "is no intact gzip file: Not a gzipped file"),
        (lambda _: b"", "is empty"),
    ],
)
def test_damaged_gzip_files(edit: Edit, message: str, tmp_path: Path) -> None:
    files = {f"{name}.gz": gzip.compress(content, 1) for name, content in parts().items()}
    files[f"{FILES[0]}.gz"] = edit(files[f"{FILES[0]}.gz"])
    with pytest.raises(ValueError, match=message) as caught:
        split("mnist", directory=write(tmp_path, files))
    assert "ubyte.gz" in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path: Path) -> None:
    write(tmp_path, parts())
    (tmp_path / FILES[0]).unlink()
    (tmp_path / FILES[0]).mkdir()
    with pytest.raises(ValueError, match="train-images-idx3-ubyte cannot be read: Is a directory"):
        split("mnist", directory=tmp_path)
    with pytest.raises(ValueError, match=r"there is no folder .*t10k-labels-idx1-ubyte"):
        split("mnist", directory=tmp_path / FILES[3])


def test_fashion_is_not_taken_for_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what tells 60,000 labels of the one from those of the other, without images of as many."""
    balanced = np.arange(60_000) % 10
    digits = np.where(balanced == 9, 0, balanced)
    for labels, wrong, message in (
        (balanced, "mnist", "is Fashion-MNIST, as it seems: 6,000 of each label"),
        (digits, "fashion_mnist", "has not 6,000 of each label"),
    ):
        part = (np.zeros((1, 28, 28), np.uint8), labels.astype(np.uint8))
        monkeypatch.setattr("stabsim.datasets.idx._part", lambda *_, part=part: part)
        with pytest.raises(ValueError, match=message):
            split(wrong, directory=tmp_path)


def test_an_official_split_takes_no_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"test=0\.3: mnist has an official test part, and takes no other"):
        split("mnist", directory=write(tmp_path, parts()), test=0.3)


def test_arrays_from_a_file(tmp_path: Path) -> None:
    inputs = np.arange(12, dtype=np.float32).reshape(6, 2)
    for labels, classes in (
        (np.array([10, 9, 10, 9, 9, 9]), ("9", "10")), (np.array(["b", "a", "b", "a", "a", "a"]), ("a", "b")),
    ):  # fmt: skip
        np.savez(tmp_path / "mine.npz", inputs=inputs, labels=labels)
        data = load(tmp_path / "mine.npz")
        np.testing.assert_array_equal(data.inputs, inputs)
        assert (
            data.classes == classes and data.labels.tolist() == [1, 0, 1, 0, 0, 0] and data.inputs.dtype == np.float64
        )
    np.savez_compressed(tmp_path / "mine.npz", inputs=inputs, targets=np.eye(3)[[0, 1, 2, 2, 1, 0]])
    assert load(tmp_path / "mine.npz").classes == ("0", "1", "2")
    np.savez(tmp_path / "mine.npz", inputs=inputs, targets=inputs[:, :1])
    assert load(tmp_path / "mine.npz").classes == ()
    assert "no classes" in str(split(str(tmp_path / "mine.npz")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"inputs": np.ones((2, 2))}, "must have arrays inputs and either labels or targets, not inputs"),
        ({"inputs": np.ones((2, 2)), "label": np.ones(2)}, "unknown array 'label'; known, nearest first: labels"),
        ({"inputs": np.ones((2, 2)), "labels": np.ones(2)}, r"of shape \(samples,\), not float64 \(2,\)"),
        ({"inputs": np.ones((2, 2)), "labels": np.ones(3, int)}, "inputs has 2 samples, its targets 3"),
        ({"inputs": np.ones((2, 2, 2)), "labels": np.ones(2, int)}, r"\(samples, features\), .* not \(2, 2, 2\)"),
        ({"inputs": np.full((2, 2), np.nan), "labels": np.ones(2, int)}, r"npz: inputs must .* inputs\[0, 0\] is nan"),
        ({"inputs": np.ones((2, 2)), "labels": np.array(["a", "NaN"])}, r"but labels\[1\] is 'NaN'"),
        ({"inputs": np.ones((2, 2)), "targets": np.ones(2)}, r"targets must have shape \(samples, outputs\)"),
        ({"inputs": np.ones((2, 2)), "targets": np.array([["a"], ["b"]])}, "targets must be an array of numbers"),
        ({"inputs": np.array([[None]]), "labels": np.ones(1, int)}, "Object arrays cannot be loaded"),
        (b"", "is no .npz: it is empty, truncated or of another kind"),
        (b"inputs", "is no .npz"),
    ],
)  # fmt: skip
def test_malformed_arrays(content: dict[str, NDArray[Any]] | bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.npz"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        np.savez(file, **content)  # type: ignore[arg-type]
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        load(file)
    assert "mine.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_a_damaged_archive(tmp_path: Path) -> None:
    file = tmp_path / "mine.npz"
    np.savez(file, inputs=np.ones((40, 2)), labels=np.ones(40, int))
    whole = bytearray(file.read_bytes())
    whole[300] ^= 255
    file.write_bytes(whole)
    with pytest.raises(ValueError, match=r"mine\.npz is no intact \.npz of plain arrays: Bad CRC-32"):
        load(file)
    file.write_bytes(whole[:-30])
    with pytest.raises(ValueError, match=r"is no \.npz: it is empty, truncated"):
        load(file)


def test_tables_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.CSV"
    file.write_text('\ufefflength, label,"wide, or not"\r\n1,10,2.5\r\n\r\n-3e1, 9,4\r\n', encoding="utf-8")
    data = load(file)
    assert data.inputs.tolist() == [[1.0, 2.5], [-30.0, 4.0]] and data.classes == ("9", "10")
    assert data.labels.tolist() == [1, 0]
    file.write_text('length,kind,"wide, or not"\n1,1.0,2.5\n-3e1,1,4\n')
    assert load(file, label="kind").classes == ("1", "1.0")  # as they are spelled
    chosen = load(file, target="length")
    assert (
        chosen.targets.tolist() == [[1.0], [-30.0]] and chosen.classes == () and chosen.inputs[0].tolist() == [1.0, 2.5]
    )
    file.write_text("target,x\n0.5,1\n")
    assert load(file).targets.tolist() == [[0.5]]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "mine.csv is empty"),
        ("x,label\n", {}, "mine.csv has names of columns, but no samples"),
        ("label\n1\n", {}, "mine.csv has no column beside 'label'"),
        ("1,2\n3,4\n", {}, "the first line must name one column label or target, .* not 1, 2"),
        ("label,target,x\n1,2,3\n", {}, "not label, target, x"),
        ("x,x,label\n1,2,3\n", {}, "the first line names 'x' twice"),
        ("x,kind\n1,2\n", {"label": "kinds"}, "unknown column 'kinds'; known, nearest first: kind, x"),
        ("x,kind\n1,2\n", {"label": "kind", "target": "x"}, "label='kind' and target='x' are both given"),
        ("x,label\n1,a\ntwo,b\n", {}, "mine.csv, line 3: 'two' in column 'x' is no finite number"),
        ("x,label\n1,a\n\nnan,b\n", {}, "mine.csv, line 4: 'nan' in column 'x' is no finite number"),
        ("x,y,label\n1,1_0,a\n", {}, "line 2: '1_0' in column 'y' is no finite number"),
        ("x,label\n,a\n", {}, "line 2: '' in column 'x' is no finite number"),
        ("x,label\n1, \n", {}, "line 2: '' in column 'label' is no class"),
        ("x,label\n1,nan\n", {}, "line 2: 'nan' in column 'label' is no class"),
        ("x,label\n1,a\0\n", {}, r"line 2: 'a\\x00' in column 'label' is no class"),
        ("x,target\n1,\n", {}, "line 2: '' in column 'target' is no finite number"),
        ("label,target,x\n1,2,3\n", {"label": "label"}, "'target' would be an input beside 'label': leave it out, or"),
        ("label,target,x\n1,2,3\n", {"target": "target"}, "'label' would be an input beside 'target'"),
        ("label,kind,x\n1,2,3\n", {"label": "kind"}, "'label' would be an input beside 'kind'"),
        ("x,target\n1,high\n", {}, "line 2: 'high' in column 'target' is no finite number"),
        ("x,label\n1,a\n1,2,b\n", {}, "mine.csv, line 3: 3 cells, where the first line names 2"),
        ('x,label\n1,"a\n', {}, "mine.csv, line 2: unexpected end of data"),
        ("x,label\n1,\udcff\n", {}, "mine.csv is no text in UTF-8"),
    ],
)
def test_malformed_tables(text: str, options: dict[str, str], message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path / "mine.csv", **options)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_or_of_another_kind(tmp_path: Path) -> None:
    for ending in (".csv", ".npz"):
        with pytest.raises(ValueError, match=f"mine{ending} cannot be read: No such file or directory"):
            split(tmp_path / f"mine{ending}")
    with pytest.raises(ValueError, match=r"path must end with \.npz or \.csv, not 'mine\.txt'"):
        load("mine.txt")
    np.savez(tmp_path / "mine.npz", inputs=np.ones((2, 2)), labels=np.ones(2, int))
    with pytest.raises(ValueError, match=r"label and target are columns of a \.csv"):
        load(tmp_path / "mine.npz", label="kind")


class Place:
    """A path of bytes, which the system would take."""

    def __fspath__(self) -> bytes:
        return b"mine.csv"


@pytest.mark.parametrize("path", [5, b"mine.csv", Place(), "\0.csv"])
def test_what_is_no_path_is_refused(path: Any) -> None:
    calls: dict[str, Callable[[], object]] = {
        "path": lambda: load(path),
        "directory": lambda: split("mnist", directory=path),
        "directory ": lambda: dataset("digits", directory=path),
    }
    for argument, call in calls.items():
        with pytest.raises((TypeError, ValueError), match=f"^{argument.strip()} must be a path, .*, not ") as caught:
            call()
        assert "\n" not in str(caught.value)
    with pytest.raises(TypeError, match=r"path must be a path, as text or an os\.PathLike of text, not None"):
        load(cast(Any, None))


def test_a_name_beyond_what_the_system_takes_is_no_folder() -> None:
    with pytest.raises(DataError, match="there is no folder xx"):
        split("mnist", directory="x" * 5000)


def test_data_that_a_study_lacks_is_no_line_of_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MNIST_DIRECTORY, str(tmp_path))

    def cases(_: str) -> list[Case]:
        dataset("mnist")
        return []

    study = Study("mine", "", cases, lambda _: ())
    with pytest.raises(DataError, match=r"^data set 'mnist' needs train-images-idx3-ubyte"):
        run_study(study, out=tmp_path, path=Path("mine.py"))


def test_the_command_line_tells_every_process_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(MNIST_DIRECTORY, "")  # to be set again behind the test
    monkeypatch.chdir(write(tmp_path / "mine", parts()))
    simulate = "simulate --widths 784,5 --activation relu --weights he_normal --nets 5 --inputs mnist --batch 50"
    with pytest.raises(SystemExit) as caught:
        main([*simulate.split(), "--mnist-dir", "."])
    told = capsys.readouterr()
    assert caught.value.code == 0 and mnist_at_hand() == "mnist", told.err
    monkeypatch.chdir(tmp_path)
    assert len(split("mnist").train[0]) == 30
    with pytest.raises(SystemExit) as caught:
        main(["run", "--all", "--mnist-dir", "not_there"])
    assert caught.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_what_is_measured_on_the_users_own_mnist_is_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    studies = [Study("mine", "", lambda _: (), lambda _: (), on_mnist=on_mnist) for on_mnist in (False, True)]
    for folder, names in (("", ["measured_quick.csv"] * 2), ("x", ["measured_quick.csv", "measured_quick_mnist.csv"])):
        monkeypatch.setenv(MNIST_DIRECTORY, folder)
        assert [measurements_file(study, "quick", tmp_path).name for study in studies] == names


def header(text: str) -> bytes:
    """Return an .npz whose array of inputs says of itself what it likes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        head = text.encode()
        archive.writestr("inputs.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(48))
        archive.writestr("labels.npy", b"")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}",
        "(" * 3000,
        "[" * 90,
        "{'descr': [('', '<f8')], 'fortran_order': 0, 'shape': 3}",
        "",
    ],
)
def test_an_array_that_lies_about_itself_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "data.npz").write_bytes(header(text))
    with pytest.raises(ValueError, match=r"data\.npz is no intact \.npz of plain arrays: ") as caught:
        load(tmp_path / "data.npz")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_an_array_that_python_2_has_written_is_read_without_a_warning(tmp_path: Path) -> None:
    content = header("{'descr': '<f8', 'fortran_order': False, 'shape': (2L, 3L)}")
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("inputs.npy", zipfile.ZipFile(io.BytesIO(content)).read("inputs.npy"))
        labels = io.BytesIO()
        np.save(labels, np.array([0, 1]))
        archive.writestr("labels.npy", labels.getvalue())
    assert load(tmp_path / "data.npz").inputs.tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("code", [0xFFFFFFFF, 0x110000, 0xD800])
@pytest.mark.parametrize("kind", ["<U2", ">U2"])
def test_labels_that_are_no_unicode_are_refused(code: int, kind: str, tmp_path: Path) -> None:
    labels = np.array([97, 98, 97, code], f"{kind[0]}u4").view(kind)
    np.savez(tmp_path / "data.npz", inputs=np.ones((2, 3)), labels=labels)
    with pytest.raises(ValueError, match=r"data\.npz: labels must be text, but some"):
        load(tmp_path / "data.npz")
    np.savez(tmp_path / "data.npz", inputs=np.ones((2, 3)), labels=np.array(["a\U0010ffff", "b"], kind))
    assert load(tmp_path / "data.npz").classes == ("a\U0010ffff", "b")


@pytest.mark.parametrize("line", ['"a\nb",c', "a\x1cb,c", '"' + "x" * 5000 + '",c', "\x0b,x"])
def test_names_of_columns_are_told_in_one_short_line(line: str, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(f"{line}\n1,2\n", newline="")
    for label in (None, "species"):
        with pytest.raises(ValueError, match=r"data\.csv: ") as caught:
            load(tmp_path / "data.csv", label=label)
        assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 500


def test_a_pipe_among_the_four_files_is_never_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", parts())
    (folder / FILES[0]).unlink()
    os.mkfifo(folder / FILES[0])
    with pytest.raises(DataError, match="cannot be read: it is a pipe"):
        dataset("mnist", directory=folder)
