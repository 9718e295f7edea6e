"""The names of a request body's fields, for the error that names the nearest one to a field that is unknown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from pydantic import BaseModel

from config.nearest import nearest

TOP = ""


@dataclass(frozen=True, slots=True)
class FieldNames:
    """The fields of a body by level: `""` is the body itself, `files` the objects of its list `files`.

    `synonyms` has, by level, names that other services use: a plain name (`config.nearest.plain`) and the path of
    the field of this API.
    """

    levels: Mapping[str, tuple[str, ...]]
    synonyms: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    #: The levels that are objects of a list: their fields are shown as those of its first object.
    lists: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        model: type[BaseModel],
        synonyms: Mapping[str, Mapping[str, str]] | None = None,
        **levels: tuple[str, ...],
    ) -> FieldNames:
        """Return the fields of a model and of the models in its lists; `levels` adds further ones."""
        found: dict[str, tuple[str, ...]] = {TOP: _aliases(model), **levels}
        lists = set()
        for name, info in model.model_fields.items():
            for inner in _models(info.annotation):
                found[info.alias or name] = _aliases(inner)
                if name not in levels:
                    lists.add(info.alias or name)
        return cls(found, synonyms or {}, frozenset(lists))

    def allowed(self, place: Sequence[int | str]) -> tuple[str, ...]:
        """Return the names of the fields that the object at `place` may have."""
        return self.levels.get(_level(place), ())

    def nearest(self, place: Sequence[int | str], name: str) -> str | None:
        """Return the path of the field that was probably meant by `name` in the object at `place`.

        Fields of that object come first, then the names that other services use, then all other objects.
        """
        level = _level(place)
        here = {field: ".".join([*map(str, place), field]) for field in self.allowed(place)}
        own = nearest(name, here, synonyms=self.synonyms.get(level), prefixes=True)
        if own is not None:
            return here.get(own, own)
        if level != TOP and (other := nearest(name, (), synonyms=self.synonyms.get(TOP))) is not None:
            return other
        elsewhere = {field: path for at in self.levels if at != level for field, path in self._paths(at)}
        other = nearest(name, elsewhere, prefixes=True)
        return None if other is None else elsewhere[other]

    def _paths(self, level: str) -> Iterator[tuple[str, str]]:
        prefix = "" if level == TOP else f"{level}.0." if level in self.lists else f"{level}."
        for name in self.levels[level]:
            yield name, f"{prefix}{name}"


def _level(place: Sequence[int | str]) -> str:
    return ".".join(part for part in place if isinstance(part, str))


def _aliases(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(info.alias or name for name, info in model.model_fields.items())


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
