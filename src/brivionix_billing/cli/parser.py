"""A parser of command lines that says which command or option was probably meant, and rejects empty values."""

from __future__ import annotations

import re
from argparse import Action, ArgumentError, ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NoReturn

from brivionix_billing.errors import closest_name, escape_unprintable, safe_repr

__all__ = ["CommandParser", "text_or_empty"]

_OTHER_COMMANDS: Final = {
    "bill": "invoice",
    "cost": "rate",
    "count": "tokens",
    "help": "--help",
    "lint": "check",
    "price": "prices",
    "topup": "quote",
    "validate": "check",
    "version": "--version",
}
_OTHER_OPTIONS: Final = {
    "--currency": "--channel",
    "--customer": "--account",
    "--date": "--at",
    "--file": "--prices",
    "--lang": "--locale",
    "--language": "--locale",
    "--month": "--period",
    "--output": "--out",
    "--tier": "--service-tier",
    "--timezone": "--zone",
    "--tz": "--zone",
    "--user": "--account",
    "-o": "--out",
}
"""What people write who know other tools, and what it is called here."""
_INVALID_CHOICE: Final = re.compile(r"argument ([^:]*): invalid choice: '(.*)' \(choose from (.*)\)", re.DOTALL)

_INVALID_NUMBER: Final = re.compile(r"argument ([^:]*): invalid int value: '(.*)'", re.DOTALL)


class CommandParser(ArgumentParser):
    """Adds a suggestion to the error of a wrong command, option or choice.

    With ``words``, the words of the command line, only the commands among them get a parser; the others are listed by
    name. To build the parsers of all commands takes longer than most commands run.
    """

    def __init__(self, *, words: Collection[str] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._words = words

    def add_subparsers(self, **settings: Any) -> Any:
        """Add commands, each with a parser like this one."""
        parser_class: Any = partial(_command, self._words)
        return super().add_subparsers(parser_class=parser_class, **settings)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Namespace, list[str]]:  # type: ignore[override]  # the overloads of argparse
        """Parse arguments. A command rejects what it does not know itself, because only it knows its options.

        A wrong option comes before a missing one: it is most likely the missing one, in another spelling.
        """
        self._reject([word for word in args or () if self._is_wrong_option(word)][:1])
        found, unknown = super().parse_known_args(args, namespace)
        self._reject(unknown)
        return found, unknown

    def _is_wrong_option(self, word: str) -> bool:
        is_option = word in _OTHER_OPTIONS or (word.startswith("--") and word != "--")
        return self._subparsers is None and is_option and word.partition("=")[0] not in self._option_string_actions

    def _reject(self, unknown: Sequence[str]) -> None:
        if unknown:
            options = [option for option in self._option_string_actions if option.startswith("--")]
            name = unknown[0].partition("=")[0]
            meant = _meant(name, options, _OTHER_OPTIONS) if name.startswith("-") else ""
            places = [action.metavar for action in self._get_positional_actions()]
            if name.startswith("--") and name[2:].upper() in places:
                meant = f"; give {name[2:].upper()} without {name}"
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")

    def _get_values(self, action: Action, arg_strings: list[str]) -> Any:
        """Return the value of an argument. A blank one, as of an unset variable, must not count as not given."""
        is_blank = any(not word.strip(" ") for word in arg_strings)
        if is_blank and action.type is not text_or_empty and not isinstance(action, _SubParsersAction):
            advice = "; give one, or omit the option" if action.option_strings else "; give one"
            raise ArgumentError(action, f"the value is empty{advice}")
        return super()._get_values(action, arg_strings)  # argparse has no public place for this

    def error(self, message: str) -> NoReturn:
        """Print a message with a suggestion, and exit with status 2."""
        choice = _INVALID_CHOICE.fullmatch(message)
        if choice is not None:
            known = re.findall(r"[^\s',]+", choice[3])
            others = _OTHER_COMMANDS if choice[1] == "COMMAND" else {}
            meant = _meant(choice[2], known, others)
            # A list of all commands or models is longer than the screen; the help shows it.
            problem = f"{safe_repr(choice[2])} is not one of {', '.join(known)}"
            message = f"argument {choice[1]}: {problem}{meant}"
            first = next(iter(self._words or ()), "")
            if choice[1] == "COMMAND" and first.startswith("-") and first != "--debug":
                message = f"argument COMMAND: missing before {first}; give options after the command"
        number = _INVALID_NUMBER.fullmatch(message)
        if number is not None:
            message = f"argument {number[1]}: {safe_repr(number[2])} is not a whole number"
        super().error(escape_unprintable(message))


class _UnusedParser:
    """The parser of a command that is not on the command line: it takes any definition, and is never asked to parse."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **settings: self


def _command(words: Collection[str] | None, *, prog: str, **settings: Any) -> CommandParser | _UnusedParser:
    """Return the parser of a command. ``prog`` ends with its name."""
    if words is not None and prog.rpartition(" ")[2] not in words:
        return _UnusedParser()
    return CommandParser(words=words, prog=prog, **settings)


def text_or_empty(text: str) -> str:
    """Return the value of an option that may be empty: the type of such an option."""
    return text


def _meant(name: str, known: Iterable[str], others: Mapping[str, str]) -> str:
    """Return a suggestion to append to a message, or nothing."""
    names = tuple(known)
    other = others.get(name)
    meant = other if other in names or (other or "").startswith("--") else closest_name(name, names)
    return f"; did you mean {meant}?" if meant else ""
