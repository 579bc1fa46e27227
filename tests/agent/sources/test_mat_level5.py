# SPDX-License-Identifier: Apache-2.0
"""The MATLAB level-5 reader, against scipy and against damage."""

import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.io import loadmat, savemat
from scipy.sparse import eye_array

from fedmill_agent.sources.mat import level5
from fedmill_agent.sources.mat.level5 import list_variables, read_variable
from fedmill_shared.errors import DataError

CLASSES = ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]
STORAGE = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 9, "i8": 12}


def header(order: str, version: int = 0x0100) -> bytes:
    """A file header in byte order ``<`` or ``>``."""
    text = b"MATLAB 5.0 MAT-file, written by a test".ljust(124)
    return text + struct.pack(f"{order}HH", version, 0x4D49)


def element(order: str, kind: int, data: bytes, *, small: bool = False) -> bytes:
    """A data element, padded to eight bytes."""
    if small:
        return struct.pack(f"{order}I", len(data) << 16 | kind) + data.ljust(4, b"\0")
    return struct.pack(f"{order}II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def matrix(
    order: str, name: str, values: np.ndarray, storage: str = "f8", *, small: bool = False
) -> bytes:
    """A matrix of class double whose numbers are stored as ``storage``."""
    stored = values.astype(np.dtype(storage).newbyteorder(order)).tobytes(order="F")
    parts = [
        element(order, 6, struct.pack(f"{order}II", 6, 0)),
        element(order, 5, struct.pack(f"{order}{values.ndim}i", *values.shape)),
        element(order, 1, name.encode(), small=len(name) <= 4 and small),
        element(order, STORAGE[storage], stored, small=small),
    ]
    return element(order, 14, b"".join(parts))


def packed(order: str, data: bytes) -> bytes:
    """``data`` as a compressed element."""
    body = zlib.compress(data)
    return struct.pack(f"{order}II", 15, len(body)) + body


def read_all(path: Path) -> dict[str, np.ndarray]:
    """Every readable variable."""
    return {v.name: read_variable(str(path), v) for v in list_variables(str(path)) if v.readable}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file for all examples of a property."""
    return tmp_path_factory.mktemp("mat") / "a.mat"


class TestAgainstScipy:
    @given(
        values=st.sampled_from(CLASSES).flatmap(
            lambda kind: arrays(kind, array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=5))
        ),
        compress=st.booleans(),
    )
    def test_every_numeric_class(
        self, scratch: Path, values: np.ndarray, *, compress: bool
    ) -> None:
        """Numbers and shape are those that scipy wrote and reads."""
        savemat(scratch, {"x": values, "after": np.ones((1, 2))}, do_compression=compress)
        found = read_all(scratch)
        expected = loadmat(scratch)["x"].astype(np.float64)
        assert found["x"].shape == expected.shape
        np.testing.assert_array_equal(found["x"], expected)
        np.testing.assert_array_equal(found["after"], [[1.0, 1.0]])

    @pytest.mark.parametrize("compress", [False, True])
    def test_other_variables_are_listed_and_not_read(
        self, tmp_path: Path, *, compress: bool
    ) -> None:
        """Cells, structs, texts, sparse and complex arrays do not disturb the numeric ones."""
        path = tmp_path / "a.mat"
        content = {
            "cell": np.array([1, "two"], dtype=object),
            "record": {"a": 1},
            "words": "hello",
            "thin": eye_array(3, format="csc"),
            "phasor": np.ones((2, 2)) * 1j,
            "flag": np.array([[True, False]]),
            "x": np.arange(3.0),
        }
        savemat(path, content, do_compression=compress)
        kinds = {v.name: v.kind for v in list_variables(str(path)) if not v.readable}
        assert kinds == {
            "cell": "cell",
            "record": "struct",
            "words": "char",
            "thin": "sparse",
            "phasor": "complex double",
        }
        found = read_all(path)
        assert found["flag"].tolist() == [[1.0, 0.0]]
        assert found["x"].tolist() == [[0.0, 1.0, 2.0]]
        unreadable = next(v for v in list_variables(str(path)) if v.name == "phasor")
        with pytest.raises(DataError, match=r"phasor \(2x2 complex double\) is not"):
            read_variable(str(path), unreadable)


class TestFormat:
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("storage", list(STORAGE))
    @pytest.mark.parametrize("wrap", [False, True])
    def test_byte_orders_and_storage_types(
        self, tmp_path: Path, order: str, storage: str, *, wrap: bool
    ) -> None:
        """Doubles stored as smaller types, in both byte orders, compressed or not."""
        values = np.array([[1, 2, 3], [100, 5, 6]])
        body = matrix(order, "signal", values, storage)
        path = tmp_path / "a.mat"
        path.write_bytes(header(order) + (packed(order, body) if wrap else body))
        found = read_all(path)["signal"]
        assert found.dtype == np.float64
        assert found.tolist() == values.tolist()
        np.testing.assert_array_equal(loadmat(path)["signal"], values)

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_small_elements(self, tmp_path: Path, order: str) -> None:
        """A short name and few numbers inside their tags."""
        path = tmp_path / "a.mat"
        body = matrix(order, "x", np.array([[7, 8]]), "i2", small=True)
        path.write_bytes(header(order) + body)
        assert read_all(path)["x"].tolist() == [[7.0, 8.0]]

    def test_stream_without_its_end_mark(self, tmp_path: Path) -> None:
        """Some writers flush the compressor and never finish it; all numbers are there."""
        path = tmp_path / "a.mat"
        deflate = zlib.compressobj()
        body = deflate.compress(matrix("<", "x", np.ones((3, 1))))
        body += deflate.flush(zlib.Z_SYNC_FLUSH)
        path.write_bytes(header("<") + struct.pack("<II", 15, len(body)) + body)
        assert read_all(path)["x"].ravel().tolist() == [1.0, 1.0, 1.0]

    def test_unnamed_and_opaque_elements(self, tmp_path: Path) -> None:
        """MATLAB's own workspace is skipped, an opaque object is listed."""
        opaque = element("<", 6, struct.pack("<II", 17, 0)) + element("<", 1, b"handle")
        path = tmp_path / "a.mat"
        path.write_bytes(
            header("<")
            + matrix("<", "", np.ones((1, 1)))
            + element("<", 14, opaque)
            + element("<", 9, b"12345678")
            + element("<", 14, b"")
        )
        assert [(v.name, v.kind) for v in list_variables(str(path))] == [("handle", "opaque")]


class TestForeignFiles:
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "only 0 bytes"),
            (b"a,b\n1,2\n", "only 8 bytes"),
            (b"x" * 200, "not a MATLAB level-5"),
            (header("<", 0x0200), "7.3 .HDF5."),
            (header("<") + b"1234", "cut off"),
            (header("<") + struct.pack("<II", 14, 800), "element of 800 bytes"),
            (header("<") + struct.pack("<II", 99, 0), "unknown type 99"),
        ],
    )
    def test_are_data_errors_with_a_remedy(self, tmp_path: Path, data: bytes, message: str) -> None:
        """The message names the file and what it seems to be."""
        path = tmp_path / "a.mat"
        path.write_bytes(data)
        with pytest.raises(DataError, match=message) as caught:
            list_variables(str(path))
        assert str(path) in str(caught.value)
        assert "-v7" in caught.value.remedy


class TestHostileFiles:
    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            (struct.pack("<ii", 3, 1), struct.pack("<ii", 4, 1), "24 bytes of float64 are not 4x1"),
            (struct.pack("<ii", 3, 1), struct.pack("<ii", -3, -1), "dimensions are damaged"),
            (
                struct.pack("<ii", 3, 1),
                struct.pack("<ii", 2**31 - 1, 2**31 - 1),
                "bytes of numbers in one variable",
            ),
            (struct.pack("<II", 9, 24), struct.pack("<II", 9, 2**31), "part of 2147483648 bytes"),
            (struct.pack("<II", 9, 24), struct.pack("<II", 9, 16), "16 bytes of float64"),
            (struct.pack("<II", 9, 24), struct.pack("<II", 9, 32), "cut off"),
            (struct.pack("<II", 9, 24), struct.pack("<II", 77, 24), "unknown type 77"),
            (struct.pack("<II", 6, 8), struct.pack("<II", 6, 0), "array flags"),
            (struct.pack("<II", 1, 6), struct.pack("<HHI", 1, 9, 6), "small element of 9"),
            (struct.pack("<II", 5, 8), struct.pack("<II", 5, 400), "part of 400 bytes"),
        ],
    )
    @pytest.mark.parametrize("wrap", [False, True])
    def test_lying_sizes(
        self, tmp_path: Path, old: bytes, new: bytes, message: str, *, wrap: bool
    ) -> None:
        """A size or dimension that does not fit is named with its place."""
        body = matrix("<", "signal", np.ones((3, 1)))
        assert body.count(old) == 1
        body = body.replace(old, new)
        path = tmp_path / "a.mat"
        path.write_bytes(header("<") + (packed("<", body) if wrap else body))
        with pytest.raises(DataError, match=message) as caught:
            read_all(path)
        assert "at byte 136" in str(caught.value)

    def test_bomb_is_refused_before_it_is_inflated(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """More bytes than the bound do not come out of the inflater."""
        monkeypatch.setattr(level5, "LARGEST_VARIABLE", 1000)
        path = tmp_path / "a.mat"
        for count, fits in ((100, True), (126, False), (100_000, False)):
            body = matrix("<", "x", np.zeros((count, 1)))
            path.write_bytes(header("<") + packed("<", body))
            if fits:
                assert read_all(path)["x"].size == count
            else:
                with pytest.raises(DataError, match="more than 1000 bytes of numbers"):
                    read_all(path)

    def test_bytes_behind_the_array(self, tmp_path: Path) -> None:
        """Neither the element nor the stream may go on behind the numbers."""
        path = tmp_path / "a.mat"
        body = matrix("<", "x", np.ones((3, 1)))
        path.write_bytes(header("<") + packed("<", body + b"more"))
        with pytest.raises(DataError, match="more bytes than the element's size"):
            read_all(path)
        longer = struct.pack("<II", 14, len(body)) + body[8:] + b"12345678"
        path.write_bytes(header("<") + longer)
        with pytest.raises(DataError, match="8 bytes more than the array needs"):
            read_all(path)

    def test_number_of_variables_is_bounded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file of endless names is refused."""
        monkeypatch.setattr(level5, "MOST_VARIABLES", 3)
        path = tmp_path / "a.mat"
        path.write_bytes(header("<") + matrix("<", "x", np.ones((1, 1))) * 4)
        with pytest.raises(DataError, match="more than 3 variables"):
            list_variables(str(path))

    def test_checksum_of_a_stream(self, tmp_path: Path) -> None:
        """A flipped checksum is damage even where all numbers came out."""
        path = tmp_path / "a.mat"
        data = bytearray(header("<") + packed("<", matrix("<", "x", np.ones((3, 1)))))
        data[-1] ^= 1
        path.write_bytes(data)
        with pytest.raises(DataError, match="damaged"):
            read_all(path)


class TestDamage:
    CONTENT = (
        header("<")
        + packed("<", matrix("<", "signal", np.arange(40.0).reshape(-1, 1)))
        + matrix("<", "rpm", np.array([[1797]]), "u2", small=True)
        + packed("<", matrix("<", "small", np.array([[1, 2]]), "u1", small=True))
    )

    @settings(max_examples=200)
    @given(
        cut=st.integers(0, len(CONTENT)),
        flips=st.lists(
            st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(1, 255)), max_size=3
        ),
    )
    def test_truncation_and_flips_end_in_data_errors(
        self, scratch: Path, cut: int, flips: list[tuple[int, int]]
    ) -> None:
        """Whatever happens to a file, it reads, or it is a DataError."""
        data = bytearray(self.CONTENT)
        for place, mask in flips:
            data[place] ^= mask
        scratch.write_bytes(data[: cut or None])
        with suppress(DataError):
            read_all(scratch)

    @settings(max_examples=200)
    @given(place=st.integers(0, 200), mask=st.integers(1, 255), order=st.sampled_from(["<", ">"]))
    def test_flips_inside_a_valid_stream(
        self, scratch: Path, place: int, mask: int, order: str
    ) -> None:
        """Damage that the checksum does not see is caught by the parser, or changes a number."""
        body = bytearray(matrix(order, "signal", np.arange(40.0).reshape(-1, 1)))
        body[place % len(body)] ^= mask
        scratch.write_bytes(header(order) + packed(order, bytes(body)))
        with suppress(DataError):
            read_all(scratch)

    def test_every_truncation(self, tmp_path: Path) -> None:
        """Cut anywhere but between variables, the file is refused."""
        path = tmp_path / "a.mat"
        whole = 0
        for length in range(129, len(self.CONTENT)):
            path.write_bytes(self.CONTENT[:length])
            try:
                read_all(path)
                whole += 1
            except DataError:
                continue
        assert whole == 2


@pytest.mark.data
class TestRealFiles:
    def test_cwru_as_scipy_reads_it(self, data_folder: Path) -> None:
        """Every variable of a recording, bit for bit."""
        path = data_folder / "cwru" / "12k_DE" / "OR007@6_0.mat"
        expected = loadmat(path)
        found = read_all(path)
        assert sorted(found) == ["X130RPM", "X130_DE_time", "X130_FE_time"]
        for name, values in found.items():
            np.testing.assert_array_equal(values, expected[name].astype(np.float64))
