from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from report.pages import label_map, missed_pole, overview, palette, photograph
from selfreg.report.pictures import OUTCOME_COLOURS, Outcome, colourise, contact_sheet, outcomes, overlay


def test_a_picture_blended_in_its_own_place_is_the_same_however_large() -> None:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (1100, 1000, 3)).astype(np.uint8)
    mask = generator.choice(np.array([0, 1, 255], np.uint8), (1100, 1000))
    blended = (image * 0.4 + palette()[mask] * 0.6).round().astype(np.uint8)
    blended[mask == 255] = image[mask == 255]
    assert (overlay(image, mask, palette()) == blended).all()
    assert overlay(image, mask, palette(), out=image) is image
    assert (image == blended).all()


def test_colourise_gives_each_class_its_colour() -> None:
    mask = np.array([[0, 1], [2, 255]], np.uint8)
    assert (colourise(mask, palette())[1, 0] == palette()[2]).all()
    assert colourise(mask, palette()).shape == (2, 2, 3)


def test_overlay_blends_classes_and_leaves_void_alone() -> None:
    image, mask = photograph(1), label_map(1)
    blended = overlay(image, mask, palette(), 0.5)
    void = mask == 255
    assert (blended[void] == image[void]).all()
    expected = (image[~void].astype(float) + palette()[mask[~void]]) / 2
    assert np.abs(blended[~void] - expected).max() <= 0.5
    assert (overlay(image, mask, palette(), 0.0) == image).all()
    assert (overlay(image, mask, palette(), 1.0)[~void] == palette()[mask[~void]]).all()


def test_overlay_refuses_other_sizes_and_strengths() -> None:
    with pytest.raises(ValueError, match="the same size"):
        overlay(photograph(1), np.zeros((3, 3), np.uint8), palette())
    with pytest.raises(ValueError, match="alpha is 2"):
        overlay(photograph(1), label_map(1), palette(), 2)


def test_outcomes_tell_fixed_broken_and_both_wrong_apart() -> None:
    label = np.array([[0, 0, 0, 0, 255]], np.uint8)
    first = np.array([[0, 1, 0, 1, 1]], np.uint8)
    last = np.array([[0, 0, 1, 2, 0]], np.uint8)
    assert outcomes(label, [first, last]).tolist() == [[0, 1, 2, 3, 4]]
    assert outcomes(label, [first]).tolist() == [[0, 2, 0, 2, 4]]
    assert outcomes(None, [first, last]).tolist() == [[0, 3, 3, 3, 3]]


def test_a_void_prediction_is_wrong_where_the_label_is_known() -> None:
    label, void = np.array([[0, 255]], np.uint8), np.array([[255, 255]], np.uint8)
    assert outcomes(label, [void]).tolist() == [[Outcome.BROKEN, Outcome.VOID]]


def sheet(path: Path, width: int = 120) -> np.ndarray:
    rows = [missed_pole(1, True), overview(2)]
    contact_sheet(rows, path, run_names=("base", "full"), palette=palette(), picture_width=width)
    return np.asarray(Image.open(path).convert("RGB"))


def test_contact_sheet_has_five_columns_of_pictures(tmp_path: Path) -> None:
    picture = sheet(tmp_path / "sheet.png")
    margin, gap, top = 12, 5, 12 + 17
    columns = [picture[top : top + 90, margin + (120 + gap) * column :][:, :120] for column in range(5)]
    case = missed_pole(1, True)
    assert (columns[0] == case.image).all()
    assert case.label is not None
    valid = case.label != 255
    assert (columns[1][valid] == palette()[case.label[valid]]).all()
    assert (columns[3] == palette()[case.predictions[1]]).all()
    assert (columns[4][case.label == 2] == OUTCOME_COLOURS[Outcome.FIXED]).all()
    assert picture.shape[1] == 2 * margin + 5 * 120 + 4 * gap


def test_contact_sheet_of_wrong_rows_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    with pytest.raises(ValueError, match="at least one row"):
        contact_sheet([], path, run_names=("base",), palette=palette())
    with pytest.raises(ValueError, match="one prediction for each"):
        contact_sheet([missed_pole(1, True)], path, run_names=("base",), palette=palette())
    assert not list(tmp_path.iterdir())


def test_names_too_long_for_a_column_are_cut(tmp_path: Path) -> None:
    rows = [missed_pole(1, True)]
    contact_sheet(rows, tmp_path / "sheet.png", run_names=("x" * 300, "y" * 300), palette=palette(), picture_width=120)
    picture = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB"))
    gaps = picture[12:28, [12 + 125 * column - 3 for column in range(1, 5)]]
    assert (gaps == 255).all()
