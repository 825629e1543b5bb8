"""The aiomonitor console: a monitor beside the agent, and commands that ask the agent.

`Console` has the life of an exporter: the agent starts it, stops it before the loop closes and
lets it fall silent in a forked child. `install` makes it where the setting `console` asks for it.
"""

from __future__ import annotations

from loopwatch.integrations.console.service import Console

__all__ = ["Console"]
