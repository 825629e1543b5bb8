"""Settings: defaults, the environment, and what is refused."""

from __future__ import annotations

import math

import pytest

from loopwatch import Config, ConfigError
from loopwatch.config import settings
from loopwatch.exporters import EXPORTERS


def test_defaults_are_the_documented_thresholds() -> None:
    """The three limits that async teams write down are the defaults."""
    config = Config()
    assert (config.stall_threshold_s, config.tasks_threshold, config.cpu_ratio_threshold) == (
        0.1,
        1000,
        0.5,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stall_threshold_s", -1),
        ("stall_threshold_s", 0),
        ("stall_threshold_s", math.nan),
        ("stall_threshold_s", math.inf),
        ("stall_threshold_s", "0.1"),
        ("stall_threshold_s", True),
        ("hang_threshold_s", 0),
        ("tasks_threshold", 0),
        ("tasks_threshold", 1.5),
        ("cpu_ratio_threshold", 1.5),
        ("tick_interval_s", 0),
        ("max_samples", 0),
        ("history", -1),
        ("queue_size", 0),
        ("http_port", 70000),
        ("http_port", "8000"),
        ("http_host", ""),
        ("stall_log", 3),
        ("loop_name", None),
        ("exporters", 3),
    ],
)
def test_a_bad_value_names_the_setting_its_value_and_what_is_allowed(
    name: str, value: object
) -> None:
    """One ConfigError says all that is needed to mend the call."""
    with pytest.raises(ConfigError) as caught:
        Config.of(**{name: value})
    text = str(caught.value)
    assert text.startswith(f"{name}={value!r} is not allowed: use ")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("LOOPWATCH_STALL_THRESHOLD_S", "-0.1"),
        ("LOOPWATCH_STALL_THRESHOLD_S", "nan"),
        ("LOOPWATCH_STALL_THRESHOLD_S", "fast"),
        ("LOOPWATCH_TASKS_THRESHOLD", "1e3"),
        ("LOOPWATCH_HTTP_PORT", "http"),
    ],
)
def test_a_bad_variable_names_itself_and_its_text(name: str, text: str) -> None:
    """The error names the variable as the operator wrote it, not the Python setting."""
    with pytest.raises(ConfigError, match="is not allowed: use a") as caught:
        Config.from_env({name: text})
    assert str(caught.value).startswith(f"{name}={text!r}")


def test_an_unknown_setting_suggests_the_one_that_was_meant() -> None:
    """A typo is found, in keywords and in the environment."""
    with pytest.raises(ConfigError, match="did you mean stall_threshold_s"):
        Config.of(stall_treshold_s=0.2)
    with pytest.raises(ConfigError, match="did you mean LOOPWATCH_HTTP_PORT"):
        Config.from_env({"LOOPWATCH_HTTPPORT": "1"})


def test_the_variables_of_a_kubernetes_service_called_loopwatch_are_not_ours() -> None:
    """A Service of that name must not keep an app from starting."""
    environ = {
        "LOOPWATCH_SERVICE_HOST": "10.0.0.7",
        "LOOPWATCH_SERVICE_PORT_HTTP": "9464",
        "LOOPWATCH_PORT": "tcp://10.0.0.7:9464",
        "LOOPWATCH_PORT_9464_TCP_ADDR": "10.0.0.7",
    }
    assert Config.from_env(environ) == Config()


def test_the_environment_is_read_and_keywords_win() -> None:
    """Variables fill in what the code leaves open; others and empty ones are ignored."""
    environ = {
        "LOOPWATCH_STALL_THRESHOLD_S": "0.2",
        "LOOPWATCH_HTTP_PORT": "9464",
        "LOOPWATCH_EXPORTERS": "log, jsonl",
        "LOOPWATCH_STALL_LOG": "",
        "PATH": "/bin",
    }
    config = Config.from_env(environ, http_port=None)
    assert config == Config(
        stall_threshold_s=0.2, exporters=("log", "jsonl"), http_port=None, stall_log=None
    )
    assert Config.from_env({"LOOPWATCH_HTTP_PORT": "none"}).http_port is None


def test_a_hang_is_a_long_stall() -> None:
    """Thresholds that contradict each other are refused together."""
    with pytest.raises(ConfigError, match=r"hang_threshold_s=0\.2 is below stall_threshold_s=0\.5"):
        Config(stall_threshold_s=0.5, hang_threshold_s=0.2)


def test_every_setting_documents_itself() -> None:
    """The table has unit, help and allowed values for each row, and a default that is allowed."""
    for row in settings():
        assert row.unit
        assert row.help
        assert row.allowed
        assert row.env == "LOOPWATCH_" + row.name.upper()
    assert Config.of(**{row.name: row.default for row in settings()}) == Config()


def test_the_help_of_exporters_names_all_of_them() -> None:
    """Whoever reads the table of settings finds every name that may be given."""
    (row,) = [row for row in settings() if row.name == "exporters"]
    assert all(name in row.help for name in EXPORTERS)


def test_a_list_of_names_may_be_the_text_of_its_variable() -> None:
    """One name, or several with commas: what is right in the environment is right in Python."""
    assert Config.of(exporters="log").exporters == ("log",)
    assert Config.of(in_app_include="a, b").in_app_include == ("a", "b")
