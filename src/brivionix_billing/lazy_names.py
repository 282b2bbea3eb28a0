"""Imports the public names of a package at their first use."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

__all__ = ["import_name"]


def import_name(package: str, modules: Mapping[str, str], name: str) -> Any:
    """Return a public name of a package, and keep it there. ``modules`` has the module of each, within the package.

    It is what ``__getattr__`` of the package does, see PEP 562. Raises ``AttributeError`` for any other name.
    """
    module = modules.get(name)
    if module is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    value = getattr(import_module(f"{package}.{module}"), name)
    setattr(sys.modules[package], name, value)
    return value
