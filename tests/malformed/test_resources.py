"""Small files that claim much: they are refused before anything of that size is allocated, decoded or unpacked."""

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat

from fixtures.folder import write_folder
from malformed.pieces import COLOURS, refusal, saved
from selfreg.checking import check_data
from selfreg.data.matlab import read_mat
from selfreg.data.reading import read_image
from selfreg.data.voc import read_voc_mask
from selfreg.networks import build_network
from selfreg.networks.pretrained import backbones_of, load_backbone_weights


def test_a_jpeg_of_2000_scans_is_refused(tmp_path: Path) -> None:
    picture = saved(COLOURS, "JPEG")
    scan = picture[picture.index(b"\xff\xda") : -2]
    path = tmp_path / "scans.jpg"
    path.write_bytes(picture[:-2] + 1999 * scan + picture[-2:])
    assert "more than 100 scans" in refusal(lambda: read_image(path), path)


def element(kind: int, body: bytes) -> bytes:
    """A data element of a MATLAB file of version 5."""
    return struct.pack("<II", kind, len(body)) + body + bytes(-len(body) % 8)


def matrix(dimensions: tuple[int, ...], inside: bytes, *, kind: int = 1, name: bytes = b"") -> bytes:
    """A matrix; kind 1 is a cell array, 9 is uint8."""
    flags = element(6, struct.pack("<II", kind, 0))
    shape = element(5, struct.pack(f"<{len(dimensions)}i", *dimensions))
    return element(14, flags + shape + element(1, name) + inside)


def mat_file(*elements: bytes) -> bytes:
    return b"MATLAB 5.0".ljust(124) + struct.pack("<H", 0x0100) + b"IM" + b"".join(elements)


@pytest.mark.parametrize("compressed", [False, True])
def test_thousands_of_nested_cells_are_refused(compressed: bool, tmp_path: Path) -> None:
    inside = matrix((1, 1), element(2, b"\1"), kind=9)
    for _ in range(5_000):
        inside = matrix((1, 1), inside)
    outer = matrix((1, 1), inside, name=b"LabelMap")
    path = tmp_path / "nested.mat"
    path.write_bytes(
        mat_file(struct.pack("<II", 15, len(packed := zlib.compress(outer))) + packed if compressed else outer)
    )
    assert "more than 8 cells" in refusal(lambda: read_mat(path, "LabelMap"), path)


def test_a_matrix_that_claims_more_pixels_than_a_picture_has_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.mat"
    path.write_bytes(mat_file(matrix((2**30, 2**30), element(2, b"\1"), kind=9, name=b"LabelMap")))
    refusal(lambda: read_mat(path, "LabelMap"), path)


def test_a_compressed_matrix_of_more_than_a_mask_holds_is_refused(tmp_path: Path) -> None:
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(2**24)) for _ in range(20)) + packer.flush()
    path = tmp_path / "bomb.mat"
    path.write_bytes(mat_file(struct.pack("<II", 15, len(packed)) + packed))
    assert "a mask of more than" in refusal(lambda: read_mat(path, "LabelMap"), path)


@pytest.mark.parametrize("value", [261, -1, float("nan"), 1.5, float("inf"), 2.0**40])
def test_values_of_sbd_are_refused_and_not_cut(value: float, tmp_path: Path) -> None:
    values = np.array([[0, 15], [value, 255]], dtype=np.float64 if isinstance(value, float) else np.int16)
    path = tmp_path / "sbd.mat"
    savemat(path, {"GTcls": {"Segmentation": values}})
    refusal(lambda: read_voc_mask(path), path)


def test_whole_numbers_of_any_type_are_read(tmp_path: Path) -> None:
    for dtype in (np.uint8, np.int16, np.float64):
        savemat(tmp_path / "sbd.mat", {"GTcls": {"Segmentation": np.array([[0, 15], [20, 255]], dtype=dtype)}})
        assert read_voc_mask(tmp_path / "sbd.mat").tolist() == [[0, 15], [20, 255]]


def test_a_state_of_one_number_repeated_without_end_is_refused(tmp_path: Path) -> None:
    network = build_network("smp:FPN/tu-test_efficientnet", 3)
    state = {key: torch.zeros(1).expand(2**40) for key in backbones_of(network)[0].state_dict()}
    path = tmp_path / "stride.pth"
    torch.save(state, path)
    refusal(lambda: load_backbone_weights(network, path), path)


def test_a_compressed_state_is_refused(tmp_path: Path) -> None:
    network = build_network("smp:FPN/tu-test_efficientnet", 3)
    torch.save({"weight": torch.zeros(2**20)}, tmp_path / "plain.pth")
    path = tmp_path / "packed.pth"
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert "more than such a file may" in refusal(lambda: load_backbone_weights(network, path), path)


def tiff_header(width: int, height: int) -> bytes:
    """A grey TIFF of 8 bits whose pixels are missing."""
    tags: list[tuple[int, int]] = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 200), (277, 1)]
    tags += [(278, height), (279, width * height)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def test_the_check_survives_a_tiff_above_the_limit_of_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfreg.checking.checks.cpu_count", lambda: 1)
    root = write_folder(tmp_path / "set")
    path = root / "images" / "train" / "t0.tif"
    path.with_suffix(".jpg").unlink()
    path.write_bytes(tiff_header(14_000, 14_000))
    report: Any = check_data("folder", root, workers=1)
    assert [str(path) in finding.message for finding in report.errors] == [True]
