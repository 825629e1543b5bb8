"""The interface of a command."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

__all__ = ["Command"]


class Command(ABC):
    """Base of all commands. Its file imports third parties only inside `run`."""

    name: str
    # One line for `loopwatch --help`, and a paragraph for `loopwatch NAME --help`.
    help: str
    about: str

    @abstractmethod
    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the options."""

    @abstractmethod
    def run(self, args: argparse.Namespace) -> int:
        """Do it and return the exit code. Raise `LoopwatchError` for what the user can mend."""
