"""Reading and writing configurations: YAML, overrides, and error messages of one line."""

import reprlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from selfreg.config.hints import nearest_key
from selfreg.config.schema import Config, known_keys
from selfreg.input_files import read_text
from selfreg.messages import one_line

_SECTIONS_OF_KEYS = {key.rpartition(".")[0] for key in known_keys()} - {""}
"""The keys that are sections."""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply `a.b=value` overrides, and validate the result.

    Args:
        path: The YAML file.
        overrides: Overrides, `section.key=value`.

    Raises:
        ValueError: If the file is missing or not a mapping, a key is unknown (the nearest known key is named), or a
            value is invalid.
    """
    path = Path(path)
    try:
        content = _read_yaml(read_text(path))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such configuration file") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as YAML: {one_line(error)}") from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ValueError(f"{path}: a configuration must be a mapping of sections, found {type(content).__name__}")
    return parse_config(content, str(path), overrides)


def check_overrides(overrides: Sequence[str], effective: Sequence[str], verb: str) -> None:
    """Refuse overrides that cannot change what a command does.

    Args:
        overrides: `section.key=value`, as given with `--set`.
        effective: Dotted keys, or whole sections, that the command reads from the configuration.
        verb: The command, for the message.

    Raises:
        ValueError: Naming the key and those that take effect.
    """
    for override in overrides:
        content: dict[str, Any] = {}
        _apply_override(content, override)
        shown = " ".join(override.split())
        for key in _leaves(content):
            if not any(key == known or key.startswith(f"{known}.") for known in effective):
                raise ValueError(
                    f"--set {shown}: {key} has no effect on `selfreg {verb}`; effective keys: {', '.join(effective)}"
                )


def _leaves(content: dict[Any, Any], prefix: str = "") -> Iterator[str]:
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value and name != "data.options":
            yield from _leaves(value, f"{name}.")
        else:
            yield name


def parse_config(content: dict[str, Any], origin: str, overrides: Sequence[str] = ()) -> Config:
    """Check a mapping, changed in place by the overrides, against the schema.

    Args:
        content: Sections by name.
        origin: Name of the mapping in error messages.
        overrides: `section.key=value`.

    Raises:
        ValueError: For an unknown key or a value of the wrong kind, in one line.
    """
    for override in overrides:
        _apply_override(content, override)
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{origin}: {_explain(error)}") from None


def dump_config(config: Config) -> str:
    """The configuration as YAML text, every key written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _apply_override(content: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    shown = " ".join(override.split())
    if not separator or not all(parts):
        raise ValueError(f"--set {shown}: write it as section.key=value")
    try:
        value = _read_yaml(text)
    except ValueError:
        raise ValueError(f"--set {shown}: the value cannot be read as YAML") from None
    if isinstance(value, str):
        value = _number(value)
    place = content
    for part in parts[:-1]:
        inner = place.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ValueError(f"--set {shown}: {part!r} is not a section")
        place = inner
    place[parts[-1]] = value


class _Loader(yaml.SafeLoader):
    """Plain values only; a key twice is refused, and so are aliases, by which a few lines can stand for gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "aliases (*name) are not supported: write out the value", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        content = super().construct_mapping(node, deep)
        if len(content) < len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key occurs twice in this mapping", node.start_mark)
        return content


def _read_yaml(text: str) -> Any:
    """The content of YAML text. Raises ValueError for whatever cannot be read."""
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except Exception as error:  # a tag that does not fit its value ends in whatever its constructor stumbles over
        raise ValueError(str(error)) from None


def _number(text: str) -> str | float:
    # YAML 1.1 reads 1e-3 as text
    try:
        return float(text)
    except ValueError:
        return text


def _explain(error: ValidationError) -> str:
    found = error.errors()
    first = found[0]
    key = _key_of(first["loc"])
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        near = nearest_key(key, list(known_keys()))
        return f"unknown key {_shown(key)}" + (f"; did you mean {near!r}?" if near else "; see docs/configuration.md")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error" and isinstance(first["input"], dict):  # of a section: the message names the value
        return f"{key}: {message}" if key else message
    # a key that may have values of several types has an error for each of them
    others = dict.fromkeys(each["msg"] for each in found[1:] if _key_of(each["loc"]) == key)
    message += "".join(f", or {other.removeprefix('Input ')}" for other in others if other != message)
    return f"{key}: {message} (found {_shown(first['input'])})" if key else message


def _key_of(location: tuple[int | str, ...]) -> str:
    """The key of an error, without the names of types that stand behind it; indices of lists stay."""
    parts = [str(part) for part in location]
    known = set(known_keys())
    length = max((n for n in range(1, len(parts) + 1) if ".".join(parts[:n]) in known), default=0)
    if not length or ".".join(parts[:length]) in _SECTIONS_OF_KEYS:
        return ".".join(parts)
    return ".".join([*parts[:length], *(part for part in parts[length:] if part.isdecimal())])


def _shown(value: Any) -> str:
    """A value for a message of one line, however large it is."""
    return reprlib.repr(value) if not isinstance(value, str) or len(value) > 100 else repr(value)
