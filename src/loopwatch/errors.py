"""The error tree.

- LoopwatchError
  - ConfigError (also a ValueError)
  - NoRunningLoopError (also a RuntimeError)
  - MissingExtraError (also an ImportError)

Every message is one line that says what to do next.
"""

from __future__ import annotations

__all__ = ["ConfigError", "LoopwatchError", "MissingExtraError", "NoRunningLoopError"]


class LoopwatchError(Exception):
    """Base of everything loopwatch raises on purpose."""


class ConfigError(LoopwatchError, ValueError):
    """A setting cannot work; the message names it, its value and what is allowed."""


class NoRunningLoopError(LoopwatchError, RuntimeError):
    """There is no running event loop to watch in this thread."""


class MissingExtraError(LoopwatchError, ImportError):
    """Something was asked for that needs an extra which is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an extra: run `pip install 'loopwatch[{extra}]'`")
        self.feature = feature
        self.extra = extra
