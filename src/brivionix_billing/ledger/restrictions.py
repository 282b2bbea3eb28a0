"""Restrictions of lots to some requests, and what a request tells the ledger to choose its lots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.journal_text import read_column
from brivionix_billing.pricebook.lot_order import require_priority
from brivionix_billing.pricebook.patterns import matcher
from brivionix_billing.rating import Charge
from brivionix_billing.text_checks import require_text
from brivionix_billing.tokens import WorstCase

__all__ = [
    "DEFAULT_PRIORITY",
    "EVERY_LOT",
    "RequestScope",
    "Restriction",
    "charge_scope",
    "entry_scope",
    "priority_content",
    "request_scope",
    "requested_names",
    "restriction_content",
]

DEFAULT_PRIORITY: Final = 50
"""Priority of a lot that states none."""
_MAX_NAMES: Final = 100
"""Maximum number of models, of groups and of tags of a restriction."""


@dataclass(frozen=True, slots=True, init=False)
class Restriction:
    """The requests that may use a lot. Of each kind that is not empty, one name must match.

    ``models`` are names of models as on bills, and ``groups`` names of groups; both may be patterns with ``*`` and
    ``?``. ``tags`` are ``name=value``. Raises ``invalid_argument``.

    >>> Restriction(models=["gpt-5.4*"], tags=["team=x"]).label
    'only models gpt-5.4*; only tags team=x'
    """

    models: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    def __init__(self, *, models: Iterable[str] = (), groups: Iterable[str] = (), tags: Iterable[str] = ()) -> None:
        for kind, names in (("models", models), ("groups", groups), ("tags", tags)):
            object.__setattr__(self, kind, _require_names(kind, names))
        for tag in self.tags:
            name, equals, value = tag.partition("=")
            if not (name and equals and value):
                raise BillingError("invalid_argument", f"tag is {safe_repr(tag)}; write it as name=value")
        if not (self.models or self.groups or self.tags):
            raise BillingError(
                "invalid_argument", "a restriction names no models, groups or tags; omit it, or name one of them"
            )

    @property
    def label(self) -> str:
        """A short text for people."""
        return "; ".join(f"only {kind} {', '.join(names)}" for kind, names in self.as_dict().items())

    def as_dict(self) -> dict[str, list[str]]:
        """Return the restriction as JSON values, without empty kinds."""
        kinds = {"models": self.models, "groups": self.groups, "tags": self.tags}
        return {kind: list(names) for kind, names in kinds.items() if names}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Restriction:
        """Read what :meth:`as_dict` returns."""
        return cls(models=value.get("models", ()), groups=value.get("groups", ()), tags=value.get("tags", ()))

    @classmethod
    def from_column(cls, text: str) -> Restriction:
        """Read the column of a lot."""
        return read_column(text, cls.from_dict)


def _require_names(kind: str, names: Iterable[str]) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise BillingError("invalid_argument", f"{kind} is {safe_repr(names)}; use a list of texts")
    found = tuple(require_text(f"an element of {kind}", name) for name in names)
    if len(found) > _MAX_NAMES or len({*found}) != len(found):
        raise BillingError("invalid_argument", f"{kind}: use at most {_MAX_NAMES} different names")
    return tuple(sorted(found))


def restriction_content(only: Restriction | None) -> dict[str, Any]:
    """Return the restriction of a new lot in the format of the journal. Raises ``invalid_argument``."""
    if only is None:
        return {}
    if not isinstance(only, Restriction):
        raise BillingError("invalid_argument", f"only is {safe_repr(only)}; use a Restriction, or None")
    return {"only": only.as_dict()}


def priority_content(priority: int) -> dict[str, Any]:
    """Return the priority of a new lot in the format of the journal. Raises ``invalid_argument``."""
    return {} if require_priority(priority) == DEFAULT_PRIORITY else {"priority": priority}


class RequestScope(NamedTuple):
    """What restrictions compare of a request. ``None``: unknown, so no restriction to models or groups matches."""

    model: str | None
    group: str | None
    tags: Mapping[str, str]
    plan: str | None = None
    """The subscription without overflow that must pay for the request; ``None``: none."""

    def may_use(self, restriction: str | None, plan: str | None = None) -> bool:
        """Return whether the request may use a lot with these columns ``restriction`` and ``plan``."""
        if self.plan is not None and plan != self.plan:
            return False
        if restriction is None:
            return True
        models, groups, tags = _matchers(restriction)
        return (
            (models is None or (self.model is not None and models(self.model)))
            and (groups is None or (self.group is not None and groups(self.group)))
            and (tags is None or any(f"{name}={value}" in tags for name, value in self.tags.items()))
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the key ``scope`` of a hold's result, without empty values."""
        values = {"model": self.model, "group": self.group, "tags": dict(self.tags), "plan": self.plan}
        return {name: value for name, value in values.items() if value}

    def as_column(self) -> str:
        """Return the column ``scope`` of a hold."""
        return canonical_json(self.as_dict()).decode()

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> RequestScope:
        """Read what :meth:`as_dict` returns."""
        return cls(value.get("model"), value.get("group"), dict(value.get("tags", {})), value.get("plan"))

    @classmethod
    def from_column(cls, text: str | None) -> RequestScope:
        """Read the column of a hold. A hold without one was admitted before its account had restricted lots."""
        return _NO_SCOPE if text is None else read_column(text, cls.from_dict)

    @property
    def label(self) -> str:
        """A short text for people."""
        parts = [
            f"{name} {safe_repr(value)}" for name, value in zip(("model", "group"), self[:2], strict=True) if value
        ]
        parts += [f"tag {safe_repr(f'{name}={value}')}" for name, value in self.tags.items()]
        return ", ".join(parts) or "a request without model, group and tags"


class _EveryLot(RequestScope):
    """An operation of the operator, which may use every lot."""

    __slots__ = ()

    def may_use(self, restriction: str | None, plan: str | None = None) -> bool:
        return True


_NO_SCOPE: Final = RequestScope(None, None, {})
EVERY_LOT: Final[RequestScope] = _EveryLot(None, None, {})
"""The scope of an operation that may use every lot."""


@lru_cache(maxsize=1024)
def _matchers(
    restriction: str,
) -> tuple[Callable[[str], bool] | None, Callable[[str], bool] | None, frozenset[str] | None]:
    only = Restriction.from_column(restriction)
    return (
        matcher(only.models) if only.models else None,
        matcher(only.groups) if only.groups else None,
        frozenset(only.tags) if only.tags else None,
    )


def requested_names(charge: Charge) -> tuple[str, str]:
    """Return the model (of a router, the router) and the group of a charge, as on bills."""
    return charge.card.router or charge.card.model, charge.group


def charge_scope(charge: Charge | int, held: RequestScope) -> RequestScope:
    """Return the scope of a charge: its own model and group if they are known, else those of its hold."""
    return RequestScope(*requested_names(charge), held.tags, held.plan) if isinstance(charge, Charge) else held


def entry_scope(content: Mapping[str, Any], held: RequestScope) -> RequestScope:
    """Return the scope of a charge from the content of its entry, as :func:`charge_scope` does.

    Without the plan: what its lots do not cover becomes debt, which other lots of the entry may settle.
    """
    named = RequestScope(content["model"], content["group"], held.tags) if "model" in content else held
    return named._replace(plan=None)


def request_scope(amount: object, model: str | None, group: str | None, tags: Mapping[str, str] | None) -> RequestScope:
    """Return the scope of a request that is to be held. Raises ``invalid_argument``."""
    if model is not None:
        require_text("the model", model)
    if group is not None:
        require_text("the group", group)
    charge = amount.charge if isinstance(amount, WorstCase) else amount
    if isinstance(charge, Charge) and (model is None or group is None):
        names = requested_names(charge)
        model, group = names[0] if model is None else model, names[1] if group is None else group
    return RequestScope(model, group, tags or {})
