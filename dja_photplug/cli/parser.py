"""The parser of the command line: short usage, errors on one line with the nearest name, positions of several words."""

from __future__ import annotations

import argparse
import itertools
import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NoReturn

from dja_photplug.errors import PhotplugError, suggest
from dja_photplug.options.arguments import LIST

__all__ = ["HelpFormatter", "Parser", "PlaceAction"]

_DASHES = "-\u2013\u2014\u2212"


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help whose first line names what a command needs; what else it takes is in the groups below."""

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[argparse._MutuallyExclusiveGroup],
        prefix: str | None = None,
    ) -> None:
        """Add the usage.

        Parameters
        ----------
        usage : str or None
            As it was given.
        actions : iterable of argparse action
        groups : iterable of argparse groups
        prefix : str, optional
        """
        if usage is None:
            words = [self._describe_needed(each) for each in actions if each.required or not each.option_strings]
            more = " [options]" if any(not each.required for each in actions if each.option_strings) else ""
            usage = f"{self._prog} {' '.join(words)}".rstrip() + more
        super().add_usage(usage, actions, groups, prefix)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Return a paragraph in lines, and what has lines, as an example, as it is."""
        return super()._fill_text(text if "\n" in text else textwrap.fill(text, width - len(indent)), width, indent)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """Return ``-o, --output OUT.fits``, with the value once, as Python does from 3.13 on."""
        text = super()._format_action_invocation(action)
        if not action.option_strings or action.nargs == 0:
            return text
        return f"{', '.join(action.option_strings)} {self._format_args(action, action.dest.upper())}"

    def _describe_needed(self, action: argparse.Action) -> str:
        name = self._get_default_metavar_for_positional(action)
        value = self._format_args(action, name)
        return f"{action.option_strings[0]} {value}" if action.option_strings else value


class PlaceAction(argparse.Action):
    """A flag with a position on the sky, of as many words as it takes: ``--position 02 17 12.8 -05 06 40.7``."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> None:
        """Read the words, which :meth:`Parser.parse` has joined."""
        # astropy takes half a second, which other commands do without.
        from dja_photplug.sky.position import parse_position, parse_square

        parse: Callable[[str], tuple[float, ...]] = parse_position if self.const == 2 else parse_square
        try:
            setattr(namespace, self.dest, parse(str(values)))
        except PhotplugError as error:
            raise argparse.ArgumentError(self, str(error)) from None


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and offer the nearest of the names that there are."""

    def __init__(self, *args: object, **keywords: object) -> None:
        """Make a parser as `argparse.ArgumentParser` does."""
        super().__init__(*args, **keywords)  # type: ignore[arg-type]  # checked there
        self._negative_number_matcher = re.compile(r"-[\d.]")  # -05:06:40.7 is no flag

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Return the arguments of a command line whose flags are known.

        Parameters
        ----------
        argv : sequence of str
            Without the name of the program.

        Returns
        -------
        Namespace

        Raises
        ------
        SystemExit
            With 2 on a usage error, with 0 after ``--help`` and ``--version``.
        """
        commands = next((each for each in self._actions if isinstance(each, argparse._SubParsersAction)), None)
        argv = self._ask_for_help(argv, () if commands is None else commands.choices)
        place = next((i for i, word in enumerate(argv) if not word.startswith("-")), len(argv))
        command = None if commands is None else commands.choices.get("".join(argv[place : place + 1]))
        if isinstance(command, Parser):
            argv = [*argv[: place + 1], *command._prepare(argv[place + 1 :])]
        arguments, unknown = self.parse_known_args(argv)
        if unknown:
            owner = command if isinstance(command, Parser) else self
            owner.error(f"unrecognized arguments: {' '.join(unknown)}{owner._explain_list(argv, unknown[0])}")
        return arguments

    def _explain_list(self, words: Sequence[str], word: str) -> str:
        """Return how a list is written whose values were given as words, for the end of a message."""
        flag = next((each for each in reversed(words[: words.index(word)]) if each.startswith("--")), "")
        action = self._find(flag.partition("=")[0]) if flag and word in words else None
        if action is None or getattr(action.type, "__name__", "") != LIST:
            return ""
        rest = itertools.takewhile(lambda each: not each.startswith("-"), words[words.index(flag) + 1 :])
        values = ",".join(filter(None, [flag.partition("=")[2], *rest]))
        return f"; values of {action.option_strings[0]} have commas between them: {values}"

    def _ask_for_help(self, argv: Sequence[str], commands: Collection[str]) -> Sequence[str]:
        """Return a command line with the flags that ``help``, ``help COMMAND`` and ``version`` mean."""
        if not argv and commands:
            self.error(f"no command is given; there are {', '.join(commands)}")
        if argv and argv[0] == "help" and "help" not in commands:
            return [*argv[1:], "--help"]
        return ["--version"] if list(argv) == ["version"] and "version" not in commands else argv

    def error(self, message: str) -> NoReturn:
        """Print a usage error on one line, and end.

        Parameters
        ----------
        message : str

        Returns
        -------
        never

        Raises
        ------
        SystemExit
            With 2.
        """
        message = " ".join(message.split())  # words of the user may have line breaks
        end = " " if message.endswith("?") else "; "
        self.exit(2, f"dja-photplug: {message}{end}usage: {self.prog} --help\n")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            names = [str(choice) for choice in action.choices]
            message = f"{value!r} is not one of {', '.join(names)}{suggest(str(value), names)}"
            raise argparse.ArgumentError(action, message)

    def _prepare(self, words: Sequence[str]) -> list[str]:
        """Return the words of a command, in which those of each position are joined; refuse flags it does not have.

        argparse would say first that a flag is missing whose name was mistyped.
        """
        prepared: list[str] = []
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word == "--":
                return [*prepared, word, *rest]
            flag, has_value, value = word.partition("=")
            self._check_flag(flag)
            action = self._find(flag)
            if isinstance(action, PlaceAction):
                count = self._count_words(rest, 0 if has_value else int(action.const))
                taken = [value] * bool(has_value) + rest[:count]
                word, rest = f"{flag}={' '.join(taken)}" if taken else word, rest[count:]
            prepared.append(word)
        return prepared

    def _count_words(self, words: Sequence[str], least: int) -> int:
        """Return how many words belong to a position: all that are angles; otherwise as many as it should have."""
        from dja_photplug.sky.position import is_angle

        angles = next((i for i, word in enumerate(words) if not is_angle(word)), len(words))
        flags = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
        return angles or min(least, flags)

    def _find(self, flag: str) -> argparse.Action | None:
        """Return the action of a flag, which may be shortened."""
        exact = self._option_string_actions.get(flag)
        near = {id(action): action for name, action in self._option_string_actions.items() if name.startswith(flag)}
        return exact or (next(iter(near.values())) if flag.startswith("--") and len(near) == 1 else None)

    def _check_flag(self, flag: str) -> None:
        """Refuse a word that was meant as a flag and is none."""
        known = list(self._option_string_actions)
        name = f"--{flag.lstrip(_DASHES)}"
        if " " in flag or not flag or flag[0] not in _DASHES or flag in known or len(name) < 3:
            return
        if flag.startswith("--"):
            if not any(each.startswith(flag) for each in known):
                self.error(f"{flag} is no flag of {self.prog}{suggest(flag, known)}")
        elif name in known or (suggest(name, known) and (flag[0] != "-" or self._is_long(flag))):
            # One dash, or one that a word processor made of two.
            self.error(f"{flag} is no flag of {self.prog}{suggest(name, known)}")

    def _is_long(self, flag: str) -> bool:
        """Return whether a word with one dash is no short flag, with its value behind it, and no number."""
        return flag[:2] not in self._option_string_actions and flag[1:2].isalpha()
