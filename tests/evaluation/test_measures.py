"""What is known of each measure, and that tables, pages and documents say it."""

from pathlib import Path

import pytest

from selfreg.evaluation import CLASS_MEASURES, MEASURES, Measure, verdict_of
from selfreg.evaluation.measures import Difference, verdict_in_words

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


@pytest.mark.parametrize("measures", [MEASURES, CLASS_MEASURES])
def test_the_document_has_one_row_for_each_measure_and_says_what_the_table_says(measures: dict[str, Measure]) -> None:
    rows = [f"| `{each.key}` | {each.title} | {each.arrow} | {each.meaning} |" for each in measures.values()]
    assert "\n".join(["| key | title | better | meaning |", "| --- | --- | --- | --- |", *rows]) in DOCUMENT.read_text(
        encoding="utf-8"
    )


def test_titles_are_plain_and_told_apart() -> None:
    titles = [measure.title for measure in MEASURES.values()]
    assert len(set(titles)) == len(titles)
    assert not any("unit" in title or "failure" in title for title in titles)


@pytest.mark.parametrize(
    ("low", "high", "higher_is_better", "verdict"),
    [
        (0.1, 0.2, True, "better"),
        (0.1, 0.2, False, "worse"),
        (-0.2, -0.1, True, "worse"),
        (-0.2, -0.1, False, "better"),
        (-0.1, 0.1, True, "not distinguishable"),
        (0.0, 0.1, True, "not distinguishable"),
        (-0.1, 0.0, False, "not distinguishable"),
        (float("nan"), float("nan"), True, "not distinguishable"),
    ],
)
def test_only_an_interval_that_excludes_zero_is_a_verdict(
    low: float, high: float, higher_is_better: bool, verdict: str
) -> None:
    assert verdict_of(low, high, higher_is_better) == verdict


def test_shares_are_written_in_percent_and_counts_as_they_are() -> None:
    assert MEASURES["miou"].text(0.6349) == "63.5"
    assert MEASURES["hallucinated_components"].text(3850) == "3850"
    assert MEASURES["miou"].text(None) == MEASURES["miou"].text(float("nan")) == "-"


def test_an_interval_is_written_so_that_zero_is_seen_inside_or_outside() -> None:
    miou, invented = MEASURES["miou"], MEASURES["hallucinated_components"]
    assert Difference(miou, 0.025, 0.0004, 0.05).interval_text == "+0.04 to +5.00"
    assert Difference(miou, 0.025, -0.0004, 0.05).interval_text == "-0.04 to +5.00"
    assert Difference(miou, 0.025, 0.004, 0.05).interval_text == "+0.4 to +5.0"
    assert Difference(invented, 3.0, 0.25, 6.0).text == "+3.0"
    assert Difference(invented, 3.0, 1.0, 6.0).text == "+3"


def test_the_verdict_in_words_tells_gains_losses_and_what_is_not_known_apart() -> None:
    words = verdict_in_words(
        [
            Difference(MEASURES["miou"], 0.06, 0.05, 0.07),
            Difference(MEASURES["missed_unit_rate"], -0.069, -0.08, -0.05),
            Difference(MEASURES["partial_mislabel_rate"], -0.01, -0.03, 0.01),
            Difference(MEASURES["hallucinated_components"], 3550, 3000, 4000),
        ]
    )
    assert words == (
        "better in mIoU (+6.0), small objects and thin parts missed (-6.9); worse in small objects invented (+3550); "
        "no difference can be shown in parts of large objects mislabelled"
    )
