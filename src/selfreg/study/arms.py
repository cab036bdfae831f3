"""The arms of a study: their names and configurations."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from selfreg.config import Arm, Config, load_config

# keys of `data` that determine the evaluated images: arms that differ in them cannot be compared image by image
_MEASURED_ON = ("kind", "root", "val_split", "options")


@dataclass(frozen=True)
class StudyArm:
    """One arm of a study.

    Attributes:
        name: Name in tables.
        overrides: Changes to the study's configuration, as `section.key=value`.
    """

    name: str
    overrides: tuple[str, ...]

    @property
    def folder_name(self) -> str:
        """The name as a folder: `mea+f` becomes `mea-f`."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.name).strip(".-")


def parse_arms(text: str) -> tuple[StudyArm, ...]:
    """Parse `base,mea,NAME:key=value,key=value,...`.

    A plain name is a value of `method.arm`. `NAME:` starts a custom arm and is followed by the keys that it changes;
    the next piece without `=` starts another arm. Commas within brackets belong to a value.

    Args:
        text: The list of arms.

    Returns:
        The arms; `base` is first if it is among them.

    Raises:
        ValueError: If an arm is unknown, has no keys, or occurs twice.
    """
    arms: list[StudyArm] = []
    known = get_args(Arm)
    for piece in (part.strip() for part in re.split(r",(?![^\[]*\])(?![^{]*\})", text)):
        name, colon, rest = piece.partition(":")
        if colon and "=" not in name:
            if name in known:
                raise ValueError(f"--arms {piece}: {name} is a predefined arm; choose another name")
            arms.append(StudyArm(name.strip(), (rest.strip(),)))
        elif "=" in piece:
            if not arms or arms[-1].name in known:
                raise ValueError(f"--arms {piece}: does not belong to an arm; write NAME:{piece}")
            arms[-1] = StudyArm(arms[-1].name, (*arms[-1].overrides, piece))
        elif piece in known:
            arms.append(StudyArm(piece, (f"method.arm={piece}",)))
        else:
            raise ValueError(f"--arms {piece}: unknown; use {', '.join(known)} or NAME:section.key=value")
    _check(arms)
    return tuple(sorted(arms, key=lambda arm: arm.name != "base"))


def _check(arms: Sequence[StudyArm]) -> None:
    folders: dict[str, str] = {}
    for arm in arms:
        if not arm.folder_name:
            raise ValueError(f"--arms {arm.name}: a name needs letters or digits")
        if arm.folder_name in folders:
            raise ValueError(f"--arms: {arm.name} and {folders[arm.folder_name]} would share a folder; rename one")
        folders[arm.folder_name] = arm.name
        for override in arm.overrides:
            if override.partition("=")[0].strip() == "seed" or "=" not in override:
                mend = "the study gives the seeds" if override.startswith("seed") else "write NAME:section.key=value"
                raise ValueError(f"--arms {arm.name}:{override}: {mend}")


def load_arm(path: Path, overrides: Sequence[str], arm: StudyArm) -> Config:
    """Load the configuration of an arm, with the study's seed.

    Raises:
        ValueError: As `load_config`, or if the arm would be evaluated on other data than the study.
    """
    study, config = load_config(path, overrides), load_config(path, [*overrides, *arm.overrides])
    for key in _MEASURED_ON:
        if getattr(config.data, key) != getattr(study.data, key):
            raise ValueError(f"--arms {arm.name}: changes data.{key}, but all arms are measured on the same data")
    return config
