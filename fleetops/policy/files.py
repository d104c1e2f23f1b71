"""Policies in files: layers read with their positions, merged, and every mistake pointed at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ValidationError

from fleetops.documents import Document, found, invalid, nearest, read_document
from fleetops.errors import Problem, Problems, Severity
from fleetops.policy.settings import Policy, merged

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

OPTIONS: Final = "the command line"
"""What a policy layer that was made of options calls itself."""


def read_policy_file(path: str | Path) -> Document:
    """Read a policy from a `.yaml`, `.yml` or `.toml` file, without judging its settings.

    Raises:
        InvalidInputError: It cannot be read, or is not valid YAML or TOML.
    """
    return read_document(path)


def resolve_policy(layers: Sequence[Document]) -> Policy:
    """The policy that the layers make together, key by key; later ones override earlier ones.

    Raises:
        InvalidInputError: With a problem for each setting that cannot be, at the layer that sets it.
    """
    policy, problems = _validated(layers)
    if policy is None:
        raise invalid(next(iter(problems.listed)).file, problems)
    return policy


def setting_problems(layer: Document) -> Problems:
    """What is wrong with single settings of one layer, whatever the others say.

    Rules that tie settings together are left out: another layer may still satisfy them.
    """
    return _validated([layer], alone=True)[1]


def _validated(layers: Sequence[Document], *, alone: bool = False) -> tuple[Policy | None, Problems]:
    values: dict[str, Any] = {}
    for layer in layers:
        values = merged(values, layer.values)
    problems = Problems()
    try:
        return Policy.model_validate(values), problems
    except ValidationError as error:
        for details in error.errors(include_url=False):
            if not (alone and _ties_settings(details)):
                problems.add(_problem(details, layers))
    return None, problems


def _ties_settings(details: ErrorDetails) -> bool:
    return details["type"] == "value_error" and isinstance(details["input"], dict)


def _problem(details: ErrorDetails, layers: Sequence[Document]) -> Problem:
    layer, path = _set_by(details["loc"], layers)
    unknown = details["type"] == "extra_forbidden"
    name = ".".join(map(str, path))
    line, column = layer.where(path, key=unknown)
    if unknown:
        code, message, hint = "unknown-setting", f"there is no setting {found(name)}", _known_hint(path)
    else:
        code, message, hint = "bad-setting", _message(name, details), _described(path)
    return Problem(Severity.ERROR, code, message, layer.source, line, column, hint)


def _set_by(loc: tuple[int | str, ...], layers: Sequence[Document]) -> tuple[Document, tuple[int | str, ...]]:
    """The last layer that sets the deepest part of `loc` that any sets; pydantic's location may go on below it."""
    for length in range(len(loc), 0, -1):
        if setting := [layer for layer in layers if layer.has(loc[:length])]:
            return setting[-1], loc[:length]
    return layers[-1], ()


def _message(name: str, details: ErrorDetails) -> str:
    error = details.get("ctx", {}).get("error")
    if isinstance(error, ValueError):
        what = str(error)
    else:
        what = details["msg"]
        what = f"{what[:1].lower()}{what[1:]}, found {found(details['input'])}"
    return f"{name}: {what}" if name else what


def _field(path: Sequence[int | str]) -> tuple[type[BaseModel] | None, FieldInfo | None]:
    """The model and the field at a path of keys as they are written; None for what is below or beside the schema."""
    model: type[BaseModel] | None = Policy
    field = None
    for key in path:
        if model is None:
            return None, None
        field = _fields(model).get(str(key))
        kind = field.annotation if field else None
        model = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
    return model, field


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _known_hint(path: Sequence[int | str]) -> str | None:
    model, _ = _field(path[:-1])
    known = _fields(model) if model else {}
    word = str(path[-1]) if path else ""
    if close := nearest(word, known):
        return f"did you mean {close}?"
    if elsewhere := [name for name in _nested_names() if name.rpartition(".")[2] == word]:
        return f"did you mean {elsewhere[0]}?"
    return f"known here: {', '.join(known)}"


def _nested_names() -> list[str]:
    """The settings inside of sections, such as `retries.attempts`, and those at the top."""
    names = list(_fields(Policy))
    for section in _fields(Policy):
        model, _ = _field([section])
        names += [f"{section}.{name}" for name in (_fields(model) if model else ())]
    return names


def _described(path: Sequence[int | str]) -> str | None:
    while path:
        model, field = _field(path)
        if model is not None:
            return f"known here: {', '.join(_fields(model))}"
        if field is not None:
            return field.description
        path = path[:-1]
    return None
