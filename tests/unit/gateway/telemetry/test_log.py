from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from gateway.relay.accounting import AccessRecord
from gateway.telemetry.log import access_log, configure_logging
from gateway.telemetry.settings import TelemetrySettings, from_environment


@pytest.fixture(autouse=True)
def _leave_logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), write_through=True)


def lines(stream: io.TextIOWrapper) -> list[str]:
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode().splitlines()


def test_json_where_no_terminal_is(stream: io.TextIOWrapper) -> None:
    configure_logging(TelemetrySettings(), stream)
    structlog.get_logger().info("worker is ready", worker="w0")
    logging.getLogger("uvicorn.error").warning("odd %s", "request")
    logging.getLogger("httpx").info("one probe more")
    ours, theirs = map(json.loads, lines(stream))
    assert (ours["event"], ours["worker"], ours["level"]) == ("worker is ready", "w0", "info")
    assert (theirs["event"], theirs["logger"], theirs["level"]) == ("odd request", "uvicorn.error", "warning")
    assert ours["timestamp"].endswith("Z")


def test_an_exception_is_one_line_of_json(stream: io.TextIOWrapper) -> None:
    configure_logging(TelemetrySettings(), stream)
    try:
        raise RuntimeError("broken")  # noqa: TRY301
    except RuntimeError:
        structlog.get_logger().exception("probe broke")
    (line,) = lines(stream)
    assert "RuntimeError: broken" in json.loads(line)["exception"]


def test_the_request_id_of_the_context_is_on_every_line(stream: io.TextIOWrapper) -> None:
    configure_logging(TelemetrySettings(), stream)
    with structlog.contextvars.bound_contextvars(request_id="req-7"):
        structlog.get_logger().info("hello")
    assert json.loads(lines(stream)[0])["request_id"] == "req-7"


def test_levels_and_console(stream: io.TextIOWrapper) -> None:
    configure_logging(TelemetrySettings(log_level="warning", log_format="console"), stream)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud", worker="w0")
    (line,) = lines(stream)
    assert "loud" in line
    assert "worker=w0" in line


def test_the_access_log_goes_to_the_same_stream(stream: io.TextIOWrapper) -> None:
    access = access_log(TelemetrySettings(), stream)
    assert access is not None
    access.write(AccessRecord(request_id="r", method="GET", path="/", status=200, end="ok"))
    access.close()
    assert json.loads(lines(stream)[0])["event"] == "request"
    assert access_log(TelemetrySettings(access_log=False), stream) is None
    assert access_log(TelemetrySettings(log_level="warning"), stream) is None


@pytest.mark.parametrize(
    "wrong",
    [{"access_log_share": 1.5}, {"trace_share": -0.1}, {"log_level": "loud"}, {"otlp_endpoint": "host:4318"}],
)
def test_settings_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TelemetrySettings(**wrong)  # type: ignore[arg-type]


def test_opentelemetrys_own_variables() -> None:
    plain = TelemetrySettings()
    assert from_environment(plain, {}) == plain
    found = from_environment(
        plain, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SERVICE_NAME": "edge"}
    )
    assert (found.otlp_endpoint, found.service_name) == ("http://c:4318", "edge")
    own = TelemetrySettings(otlp_endpoint="http://own:4318")
    assert (
        from_environment(own, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}).otlp_endpoint
        == "http://own:4318"
    )
    assert from_environment(own, {"OTEL_SDK_DISABLED": "true"}).otlp_endpoint is None
