"""Sets up logging once per process: structlog for our own events, and the same look for everybody else's."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import orjson
import structlog

from gateway.telemetry.access_log import AccessLog, console_line, json_line
from gateway.telemetry.settings import TelemetrySettings

_QUIET = ("httpx", "httpcore", "asyncio", "multipart")
"""Libraries that log every request of theirs at info; a probe per second and worker is no news."""


def configure_logging(settings: TelemetrySettings, stream: TextIO = sys.stderr) -> None:
    """Everything goes to `stream`, one event a line; later calls replace earlier ones."""
    level = getattr(logging, settings.log_level.upper())
    json = _is_json(settings, stream)
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True)
        if json
        else structlog.processors.TimeStamper("%H:%M:%S"),
    ]
    render: list[structlog.types.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_dumps)]
        if json
        else [
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def access_log(settings: TelemetrySettings, stream: TextIO = sys.stderr) -> AccessLog | None:
    """The access log as the settings want it, or None."""
    if not settings.access_log or settings.log_level not in ("debug", "info"):
        return None
    render = json_line if _is_json(settings, stream) else console_line
    return AccessLog(
        stream.buffer,
        render,
        share=settings.access_log_share,
        per_second=settings.access_log_per_second,
    )


def _is_json(settings: TelemetrySettings, stream: TextIO) -> bool:
    return settings.log_format == "json" or (settings.log_format == "auto" and not stream.isatty())


def _dumps(event: dict[str, Any], **_: Any) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
