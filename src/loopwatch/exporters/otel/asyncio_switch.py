"""The switch for opentelemetry-instrumentation-asyncio: on while an agent wants it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from loopwatch.errors import MissingExtraError
from loopwatch.forklock import ForkLock

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["AsyncioSwitch"]

# It patches asyncio for the whole process: on with the first agent that wants it, off with the
# last. Empty also while it is on because the host switched it on.
_WANT_IT: Final[set[AsyncioSwitch]] = set()
_LOCK: Final = ForkLock()


class AsyncioSwitch:
    """One agent's wish that asyncio is instrumented."""

    def __init__(
        self, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None
    ) -> None:
        """Raise `MissingExtraError` if the instrumentation is not installed."""
        try:
            from opentelemetry.instrumentation.asyncio import (  # noqa: PLC0415 - only if asked for
                AsyncioInstrumentor,
            )
        except ImportError:
            raise MissingExtraError("otel_instrument_asyncio", "otel") from None
        self._instrumentor = AsyncioInstrumentor()
        self._providers = {"tracer_provider": tracer_provider, "meter_provider": meter_provider}

    def on(self) -> None:
        """Switch it on, unless the host or another agent has."""
        with _LOCK:
            if not _WANT_IT:
                if self._instrumentor.is_instrumented_by_opentelemetry:
                    return
                self._instrumentor.instrument(**self._providers)
            _WANT_IT.add(self)

    def off(self) -> None:
        """Switch it off if nobody else wants it and the host has not done so."""
        with _LOCK:
            if self not in _WANT_IT:
                return
            _WANT_IT.discard(self)
            if not _WANT_IT and self._instrumentor.is_instrumented_by_opentelemetry:
                self._instrumentor.uninstrument()

    def forget(self) -> None:
        """Switch it off in a forked child, without taking a lock."""
        if self in _WANT_IT:
            _WANT_IT.clear()
            self._instrumentor.uninstrument()
