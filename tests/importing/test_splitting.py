import pytest

from selfreg.importing.splitting import choose_validation


def test_frames_of_a_clip_stay_together() -> None:
    names = [f"clip{clip}_{frame:03d}" for clip in "abcdefgh" for frame in range(10)]
    chosen, groups = choose_validation(names, 0.25, seed=0)
    assert groups == 8
    assert len(chosen) == 20
    for clip in "abcdefgh":
        assert sum(name.startswith(f"clip{clip}") for name in chosen) in (0, 10)


def test_images_of_a_folder_stay_together() -> None:
    names = [f"patient{number}/{view}" for number in range(6) for view in ("front", "side", "top")]
    chosen, groups = choose_validation(names, 0.2, seed=1)
    assert groups == 6
    assert len(chosen) in (3, 6)
    for name in chosen:
        assert {f"{name.split('/')[0]}/{view}" for view in ("front", "side", "top")} <= chosen


def test_versions_that_roboflow_made_of_a_photograph_stay_together() -> None:
    names = [f"IMG_{number}_jpg.rf.{version}{number:04x}" for number in range(10) for version in "abc"]
    chosen, groups = choose_validation(names, 0.2, seed=0)
    assert groups == 10
    assert len(chosen) == 6
    assert all(sum(f"IMG_{number}_jpg" in name for name in chosen) in (0, 3) for number in range(10))


def test_names_that_only_count_are_images_of_their_own() -> None:
    chosen, groups = choose_validation([f"IMG_{number:04d}" for number in range(50)], 0.2, seed=0)
    assert groups == 50
    assert len(chosen) == 10


def test_the_choice_depends_on_the_seed_alone() -> None:
    names = [f"{number}" for number in range(40)]
    first, _ = choose_validation(names, 0.2, seed=3)
    assert first == choose_validation(list(reversed(names)), 0.2, seed=3)[0]
    assert first != choose_validation(names, 0.2, seed=4)[0]


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_both_splits_hold_an_image(share: float) -> None:
    chosen, _ = choose_validation(["a", "b", "c"], share, seed=0)
    assert 1 <= len(chosen) <= 2


def test_a_single_group_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="use --val 0"):
        choose_validation(["a_jpg.rf.0", "a_jpg.rf.1"], 0.2, seed=0)
