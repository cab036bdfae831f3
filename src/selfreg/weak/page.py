"""The page of `selfreg pseudo`: scores, class shares, and a contact sheet of the masks."""

from collections.abc import Mapping
from pathlib import Path

from selfreg.report.content import is_missing
from selfreg.report.data_page import DataPage, Remark, Sample, write_data_page
from selfreg.weak.pseudo_masks import MaskStatistics, read_pseudo_mask
from selfreg.weak.scoring import StageScore
from selfreg.weak.tagged import TaggedImages

SHOWN = 48


def write_pseudo_page(
    path: Path,
    tagged: TaggedImages,
    folder: Path,
    statistics: MaskStatistics,
    scores: Mapping[str, StageScore],
    not_scored: str,
) -> Path:
    """Write the page as one HTML file that needs no network; return its path."""
    facts = [("images", str(statistics.images)), ("void", f"{statistics.void_share:.1%}")]
    facts += [
        (f"mIoU of {title}", f"{100 * score.miou:.1f} %")
        for title, score in scores.items()
        if not is_missing(score.miou)
    ]
    notes = [
        "Void: no class scored clearly above the second best. mIoU is over the pixels that are not void"
        + (f"; not measured here: {not_scored}." if not_scored else ".")
    ]
    page = DataPage(
        title="Pseudo masks",
        subtitle=f"{folder}: made from image-level tags",
        class_names=tuple(tagged.labels.class_names),
        palette=tagged.labels.palette,
        verdict=_verdict(tagged, statistics, scores),
        facts=facts,
        findings=_findings(tagged, statistics),
        pixel_shares={"pseudo masks": statistics.pixel_share},
        image_counts={
            "tagged": [int(count) for count in tagged.tags.sum(axis=0)],
            "pseudo masks": statistics.image_count,
        },
        samples=[_sample(tagged, folder, statistics, index) for index in _chosen(tagged, statistics)],
        notes=notes,
    )
    return write_data_page(page, path)


def _verdict(tagged: TaggedImages, statistics: MaskStatistics, scores: Mapping[str, StageScore]) -> str:
    """Coverage, lost tags and, if there are true masks, the mIoU of the masks in one sentence."""
    void, lost = 100 * statistics.void_share, len(statistics.lost_tags)
    parts = [f"{100 - void:.1f} % of the pixels have a class, {void:.1f} % are void"]
    parts.append(f"{lost} of {statistics.images} masks lack a class of their tags" if lost else "no tag was lost")
    score = list(scores.values())[-1].miou if scores else None
    if score is not None and not is_missing(score):
        parts.append(f"mIoU on the true masks is {100 * score:.1f} %")
    return f"{statistics.images} images with {len(tagged.foreground)} tagged classes: {'; '.join(parts)}."


def _findings(tagged: TaggedImages, statistics: MaskStatistics) -> list[Remark]:
    never = [
        tagged.labels.class_names[index]
        for index in tagged.foreground
        if tagged.tags[:, index].any() and not statistics.image_count[index]
    ]
    findings = [Remark("fault", f"{name}: images have this tag, but no mask contains the class") for name in never]
    if statistics.lost_tags:
        files = [f"{image_id}: {', '.join(names)}" for image_id, names in statistics.lost_tags.items()]
        words = f"{len(files)} of {statistics.images} masks lack a class of their image's tags"
        findings.append(Remark("warning", words, files))
    return findings


def _chosen(tagged: TaggedImages, statistics: MaskStatistics) -> list[int]:
    """Images that lost a tag first, then evenly spaced from the most void to the least."""
    ids = tagged.ids
    order = sorted(
        range(len(ids)), key=lambda index: (ids[index] not in statistics.lost_tags, -statistics.void_shares[ids[index]])
    )
    step = max(1, len(order) // SHOWN)
    return order[::step][:SHOWN]


def _sample(tagged: TaggedImages, folder: Path, statistics: MaskStatistics, index: int) -> Sample:
    image_id = tagged.ids[index]
    lost = statistics.lost_tags.get(image_id, [])
    mask = read_pseudo_mask(folder, image_id, tagged.labels)
    return Sample(image_id, tagged.image(index), mask, (), [f"no {name}" for name in lost])
