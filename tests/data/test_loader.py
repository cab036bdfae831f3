from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from fixtures.folder import write_folder
from selfreg.data import Draw, EvaluationSet, Folder, SeededSampler, TrainingSet, collate_padded


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(write_folder(tmp_path / "set", splits={"train": 5}), "train")


def test_training_items_have_the_promised_types(folder: Folder) -> None:
    item = TrainingSet(folder, (16, 20))[Draw(2, 7)]
    assert set(item) == {"image", "mask", "index"}
    assert item["image"].shape == (3, 16, 20)
    assert item["image"].dtype == torch.float32
    assert item["image"].is_contiguous()
    assert item["mask"].dtype == torch.int64
    assert item["index"] == 2


def test_tags_are_given_on_request_and_refused_where_there_are_none(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", splits={"train": 1}, extra={"image_labels": {"t0": ["car"]}})
    item = TrainingSet(Folder(root, "train"), (8, 8), with_tags=True)[Draw(0, 0)]
    assert item["tags"].tolist() == [0, 0, 1]

    class Bare:
        labels = Folder(root, "train").labels
        ids = ("x",)

        def __len__(self) -> int:
            return 1

        read = Folder(root, "train").read

    with pytest.raises(ValueError, match="Bare has no image-level tags"):
        TrainingSet(Bare(), (8, 8), with_tags=True)


def test_confidence_travels_with_the_mask(tmp_path: Path) -> None:
    class Sure(Folder):
        def confidence(self, index: int) -> NDArray[np.float32]:
            return np.asarray(self.read(index).mask / 255, dtype=np.float32)

    sure = Sure(write_folder(tmp_path / "set", splits={"train": 1}), "train")
    item = TrainingSet(sure, (24, 48))[Draw(0, 3)]
    inside = item["mask"] != 255
    torch.testing.assert_close(item["confidence"][inside], item["mask"][inside].float() / 255)


def test_evaluation_keeps_the_mask_native_and_resizes_the_image_alone(folder: Folder) -> None:
    plain, resized = EvaluationSet(folder)[1], EvaluationSet(folder, short_side=12)[1]
    assert plain["image"].shape == (3, 24, 32)
    assert resized["image"].shape == (3, 12, 16)
    assert torch.equal(plain["mask"], resized["mask"])
    assert torch.equal(plain["mask"], torch.from_numpy(folder.read(1).mask.astype(np.int64)))


def test_padded_batches_hold_every_item_and_void(folder: Folder) -> None:
    small = {"image": torch.ones(3, 4, 9), "mask": torch.ones(4, 9, dtype=torch.int64), "index": 7}
    batch = collate_padded([EvaluationSet(folder)[0], small])
    assert batch["image"].shape == (2, 3, 24, 32)
    assert batch["index"].tolist() == [0, 7]
    assert batch["mask_size"].tolist() == [[24, 32], [4, 9]]
    assert batch["image_size"].tolist() == [[24, 32], [4, 9]]
    assert (batch["mask"][1] == 1).sum() == 36
    assert (batch["mask"][1] == 255).sum() == 24 * 32 - 36
    assert batch["image"][1].sum() == 3 * 36


@given(st.integers(1, 40), st.integers(1, 3), st.integers(1, 4), st.integers(0, 5), st.integers(0, 99), st.booleans())
def test_processes_share_out_the_batches_of_one(
    length: int, share: int, world_size: int, epoch: int, seed: int, drop_last: bool
) -> None:
    batch_size = share * world_size
    if drop_last and length < batch_size:
        with pytest.raises(ValueError, match="do not fill one batch"):
            SeededSampler(length, seed, batch_size=batch_size)
        return

    def draws(rank: int, processes: int) -> list[Draw]:
        sampler = SeededSampler(
            length, seed, batch_size=batch_size, rank=rank, world_size=processes, drop_last=drop_last
        )
        sampler.set_epoch(epoch)
        assert len(list(sampler)) == len(sampler)
        return list(sampler)

    alone = draws(0, 1)
    together = [draws(rank, world_size) for rank in range(world_size)]
    rebuilt = []
    for step in range(len(alone) // batch_size):
        for shares in together:
            rebuilt += shares[step * share : (step + 1) * share]
    assert rebuilt == alone
    indices = [draw.index for draw in alone]
    if drop_last:
        assert len(set(indices)) == len(indices) == length // batch_size * batch_size
    else:
        assert set(indices) == set(range(length))


def test_epochs_differ_in_order_and_in_augmentation_and_repeat_exactly() -> None:
    sampler = SeededSampler(50, 1, batch_size=5)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert [draw.index for draw in first] != [draw.index for draw in second]
    assert not {draw.seed for draw in first} & {draw.seed for draw in second}
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_a_start_skips_batches_of_its_own_epoch_only() -> None:
    sampler = SeededSampler(20, 1, batch_size=4)
    sampler.set_epoch(2)
    whole = list(sampler)
    sampler.set_start(3)
    sampler.set_epoch(2)
    assert list(sampler) == whole[12:]
    assert len(sampler) == 8
    sampler.set_epoch(3)
    assert len(list(sampler)) == 20
    with pytest.raises(ValueError, match="5 steps"):
        sampler.set_start(6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 3, "world_size": 2}, "choose a multiple"),
        ({"batch_size": 2, "world_size": 2, "rank": 2}, "rank 2 of 2"),
        ({"batch_size": 0}, "batch_size 0"),
    ],
)
def test_impossible_shares_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SeededSampler(10, 0, **options)  # type: ignore[arg-type]


def test_the_number_of_workers_changes_nothing(folder: Folder) -> None:
    def batches(workers: int) -> list[dict[str, torch.Tensor]]:
        sampler = SeededSampler(len(folder), 3, batch_size=2)
        loader = DataLoader(TrainingSet(folder, (16, 16)), batch_size=2, sampler=sampler, num_workers=workers)
        return list(loader)

    for alone, shared in zip(batches(0), batches(2), strict=True):
        for key in alone:
            assert torch.equal(alone[key], shared[key])
