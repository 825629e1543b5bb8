"""An example of a configuration of Alertmanager: who is told, and what need not be told as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from loopwatch.assets.promql import LOOP, SERVICE, TARGET, WORKER, duration, scaled_s
from loopwatch.assets.yaml_text import Noted, comment, dump

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loopwatch.assets.rules import RulesOptions

__all__ = ["example"]

_ABOUT: Final = """\
An example to take parts from: receivers that you have, routes and inhibitions as they are.
For Alertmanager 0.22 and newer; `amtool check-config` reads it."""

_SYMPTOMS: Final = ('alertname=~"EventLoop.*"', 'alertname!~"EventLoop(Stuck|Unreachable)"')
_ALL_OTHERS: Final = ('alertname=~"EventLoop.*"', 'alertname!="EventLoopUnreachable"')


def example(options: RulesOptions) -> str:
    """Return the configuration for the severities of these options."""

    def wait(text: str) -> str:
        return duration(scaled_s(text, options.scale, 1))

    critical, warning = options.severities["critical"], options.severities["warning"]
    config = {
        "route": {
            "receiver": "team-chat",
            "group_by": ["alertname", *SERVICE],
            "group_wait": wait("30s"),
            "group_interval": wait("5m"),
            "repeat_interval": wait("12h"),
            "routes": [
                Noted(
                    "Told at once: a stuck loop may be back in a minute.",
                    {
                        "receiver": "pager",
                        "matchers": [f'severity="{critical}"', 'alertname=~"EventLoop.*"'],
                        "group_wait": "0s",
                        "group_interval": wait("1m"),
                        "repeat_interval": wait("4h"),
                    },
                ),
                Noted(
                    "Worth a look this week.",
                    {
                        "receiver": "tickets",
                        "matchers": [f'severity="{warning}"', 'alertname=~"EventLoop.*"'],
                    },
                ),
            ],
        },
        "inhibit_rules": [
            _inhibit(
                "A loop that serves nothing has every symptom. Labels that both lack are equal.",
                ['alertname="EventLoopStuck"'],
                _SYMPTOMS,
                WORKER,
            ),
            _inhibit(
                "A process that does not answer: what was last known of its loops is old.",
                ['alertname="EventLoopUnreachable"', 'loop=""'],
                _ALL_OTHERS,
                TARGET,
            ),
            _inhibit(
                "The same for one worker of several behind one endpoint.",
                ['alertname="EventLoopUnreachable"', 'loop!=""'],
                _ALL_OTHERS,
                WORKER,
            ),
            _inhibit(
                "Stalled time is that of all workers of an endpoint: one that is stuck burns it.",
                ['alertname=~"EventLoop(Stuck|Unreachable)"', 'loop!=""'],
                ('alertname=~"EventLoopStalledTime(Fast|Slow)Burn"',),
                LOOP,
            ),
            _inhibit(
                "Stalled time that burns fast is more than stalls that are frequent.",
                ['alertname="EventLoopStalledTimeFastBurn"'],
                ('alertname=~"EventLoop(StalledTimeSlowBurn|StallsFrequent|LagHigh)"',),
                LOOP,
            ),
            _inhibit(
                "A leak that has come to the limit need not be foretold.",
                ['alertname="EventLoopTasksHigh"'],
                ('alertname="EventLoopTasksGrowing"',),
                WORKER,
            ),
        ],
        "receivers": [
            {
                "name": name,
                "webhook_configs": [{"url": f"http://127.0.0.1:9095/{name}"}],
            }
            for name in ("pager", "tickets", "team-chat")
        ],
    }
    return f"{comment(_ABOUT)}\n{dump(config)}"


def _inhibit(text: str, source: list[str], targets: Sequence[str], equal: Sequence[str]) -> Noted:
    return Noted(
        text,
        {
            "source_matchers": source,
            "target_matchers": list(targets),
            "equal": list(equal),
        },
    )
