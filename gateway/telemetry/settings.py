"""What an operator may set about logs, metrics and traces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "console"]


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """Nothing leaves the machine unless `otlp_endpoint` is set."""

    log_level: LogLevel = "info"
    """Least serious of `debug`, `info`, `warning`, `error` that is written."""
    log_format: LogFormat = "auto"
    """`auto`: console on a terminal, JSON lines otherwise."""
    access_log: bool = True
    """One line for each request."""
    access_log_share: float = 1.0
    """Share of the good requests (status < 400, ended well) that are logged; all others always are."""
    access_log_per_second: float = 200.0
    """Good requests that a process logs per second at most; failed ones always are."""
    metrics_need_key: bool = False
    """Ask for an API key at `/metrics` too, where keys are asked for at all."""
    otlp_endpoint: str | None = None
    """Base URL of an OpenTelemetry collector (OTLP over HTTP), e.g. `http://127.0.0.1:4318`; None: off."""
    trace_share: float = 1.0
    """Share of requests that are traced, of those whose client did not decide."""
    service_name: str = "sluice"
    """Name of this gateway in traces."""

    def __post_init__(self) -> None:
        for name in ("access_log_share", "trace_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name, choices in (("log_level", get_args(LogLevel)), ("log_format", get_args(LogFormat))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if self.otlp_endpoint is not None and not self.otlp_endpoint.startswith(("http://", "https://")):
            raise ValueError(f"otlp_endpoint must be an http(s) URL, got {self.otlp_endpoint!r}")


def from_environment(settings: TelemetrySettings, environ: Mapping[str, str]) -> TelemetrySettings:
    """OpenTelemetry's own variables, for what `settings` leave open. The entry point passes `os.environ`."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return replace(settings, otlp_endpoint=None)
    endpoint = settings.otlp_endpoint or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or None
    name = environ.get("OTEL_SERVICE_NAME") or settings.service_name
    return replace(settings, otlp_endpoint=endpoint, service_name=name)
