"""Structured logs: one JSON object a line on stdout, with secrets taken out whoever wrote them.

Callers must not log a token, key, prompt or reply. The redaction here is the last line of defence,
also for what libraries and tracebacks say: every string is searched on its way out.
"""

import asyncio
import atexit
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED: Final = "[redacted]"
TEXT_LENGTH_MAX = 16_384
DEPTH_MAX = 6
FIGURE_LINES_SECONDS_MAX = 0.05  # how long the line of a request may wait for others
WAITING_LINES_MAX = 100
QUOTED_MAX = 1024  # texts that are known as JSON writes them

# An api_token wherever it stands, cut short or percent-encoded too: its address alone is kept from nobody, its secret is.
_TOKEN = re.compile(r"l5(?:_|%5f)[0-9a-z]{1,26}(?:_|%5f)[0-9a-f]+", re.IGNORECASE)
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (_TOKEN, REDACTED),
    (re.compile(r"(/proxy/|/dashboard/|/admin/link/)[^/?#\s\"']+", re.IGNORECASE), rf"\1{REDACTED}"),
    (re.compile(r"\b(Bearer|Basic)\s+[^\s\"',;)}\]]+", re.IGNORECASE), rf"\1 {REDACTED}"),
    (re.compile(r"\b((?:proxy-)?authorization|x-api-key|api[_-]?key)(\\?[\"']?\s*[:=,]\s*b?\\?[\"']?)[^\s\"'\\,;)}\]\[]+", re.IGNORECASE), rf"\1\2{REDACTED}"),
    (re.compile(r"\b(?:sk-|plutus_sk_)[A-Za-z0-9_\-]{8,}"), REDACTED),
    (re.compile(r"(://[^\s/:@]{0,200}:)[^\s/@]{1,500}@"), rf"\1{REDACTED}@"),
)
# What each of the patterns needs to be found at all: one search tells of most texts that there is nothing to take out.
_SUSPECT = re.compile(r"l5[_%]|/proxy/|/dashboard/|/admin/link/|bearer|basic|authorization|key|sk[-_]|://", re.IGNORECASE)
_FIGURES = frozenset({int, float, bool, type(None)})
_SECRET_NAMES = frozenset(
    {
        "authorization", "proxy_authorization", "x_api_key", "api_key", "api_token", "token_text", "cookie", "set_cookie",
        "password", "secret", "x_level5_peer_key", "database_url", "redis_url",
    }
)  # fmt: skip


def redact_text(text: str) -> str:
    """Return `text` without anything that looks like a token, key or credential, and no longer than a line may be."""
    if len(text) > TEXT_LENGTH_MAX:  # cut first, so that a huge text costs little to search
        text = text[:TEXT_LENGTH_MAX] + "…"
    if _SUSPECT.search(text) is None:
        return text
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Take secrets out of one event, however deep they are."""
    return {key: REDACTED if _is_secret_name(key) else _redact_value(value, DEPTH_MAX) for key, value in event.items()}


def _redact_value(value: object, depth: int) -> object:
    kind = type(value)
    if kind in _FIGURES:
        return value
    if kind is str:  # nearly all there is; the checks below cost ten times as much
        return redact_text(value)  # type: ignore[arg-type]  # mypy does not narrow by `type`
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray):
        return redact_text(bytes(value[:TEXT_LENGTH_MAX]).decode("utf-8", "backslashreplace"))
    if isinstance(value, str) or depth == 0:
        return redact_text(str(value))
    if isinstance(value, Mapping):
        return {redact_text(str(key)): REDACTED if _is_secret_name(key) else _redact_value(item, depth - 1) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        items = list(value)
        if len(items) == 2 and _is_secret_name(items[0]):  # a header as a pair
            return [str(items[0]), REDACTED]
        return [_redact_value(item, depth - 1) for item in items]
    return redact_text(str(value))


def _is_secret_name(name: object) -> bool:
    text = name.decode("latin-1") if isinstance(name, bytes) else name
    return isinstance(text, str) and text.lower().replace("-", "_") in _SECRET_NAMES


class _Stdout:
    """Writes whole lines. A log that cannot be written must not stop work that moves money."""

    def msg(self, line: str) -> None:
        waiting = _figure_lines.take() if _figure_lines is not None else ""
        try:
            sys.stdout.write(waiting + _TOKEN.sub(REDACTED, line) + "\n")
            sys.stdout.flush()
        except (OSError, ValueError):  # the reader has gone, or stdout is closed already
            return

    debug = info = warning = warn = error = err = critical = fatal = exception = log = failure = msg


class _FigureLines:
    """Lines that every request writes: their fields come written, and none of structlog's steps runs for them.

    In a running loop those of a moment are written together, before any other line.
    """

    def __init__(self, threshold: int, role: str) -> None:
        self._is_on, self._role = threshold <= logging.INFO, json.dumps(role)
        self._waiting: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._second, self._instant = -1, ""

    def write(self, event: str, figures: str) -> None:
        if not self._is_on:
            return
        second, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
        if second != self._second:
            self._second, self._instant = second, f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
        waiting = self._waiting
        waiting.append(
            f'{{{figures}, "event": "{event}", "level": "info", "timestamp": "{self._instant}.{microseconds:06}Z", '
            f'"role": {self._role}, "pid": {os.getpid()}}}\n'
        )
        if len(waiting) == 1 or self._loop is not asyncio._get_running_loop():
            self._schedule()
        elif len(waiting) >= WAITING_LINES_MAX:
            self.flush()

    def take(self) -> str:
        """Return what waits to be written; it is the caller's to write now."""
        waiting, self._waiting = self._waiting, []
        return "".join(waiting)

    def flush(self) -> None:
        """Write what waits."""
        if text := self.take():
            with suppress(OSError, ValueError):  # as in _Stdout
                sys.stdout.write(text)
                sys.stdout.flush()

    def _schedule(self) -> None:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        self._loop.call_later(FIGURE_LINES_SECONDS_MAX, self.flush)


_figure_lines: _FigureLines | None = None


def log_figures(event: str, figures: str) -> None:
    """Write a line at `info` whose fields are written already, such as `"hold": 330, "model": "m"`: numbers, ids of ours, and texts as `quoted` gives them."""
    if _figure_lines is None:
        log.info(event, **json.loads(f"{{{figures}}}"))
    else:
        _figure_lines.write(event, figures)


@lru_cache(maxsize=QUOTED_MAX)
def quoted(text: str | None) -> str:
    """Return a text as JSON writes it, without secrets. For those that come again and again: words of ours, names of models."""
    return "null" if text is None else json.dumps(redact_text(text), ensure_ascii=False)


def quoted_list(texts: Iterable[str]) -> str:
    """Return texts as JSON writes them, without secrets, whoever wrote them."""
    return json.dumps([redact_text(text) for text in texts], ensure_ascii=False)


def configure_logs(level: str, role: str) -> None:
    """Send structlog and the standard library's logging to stdout as JSON lines. Called once by each entry point.

    Every line has `timestamp` (UTC), `level`, `event`, `role` and `pid`.
    """

    def add_origin(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["role"] = role
        event["pid"] = os.getpid()
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_origin,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact,
    ]
    threshold = logging.getLevelNamesMapping()[level.upper()]
    render = structlog.processors.JSONRenderer(ensure_ascii=False)
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: _Stdout(),
        cache_logger_on_first_use=True,
    )
    global _figure_lines
    _figure_lines = _FigureLines(threshold, role)
    atexit.register(_figure_lines.flush)
    _route_standard_logging(threshold, shared, render)
    sys.excepthook = _log_crash
    threading.excepthook = _log_thread_crash


def _route_standard_logging(threshold: int, shared: list[Processor], render: Processor) -> None:
    """Give libraries that use `logging` the same lines; they are heard from `warning` on, as their detail is not ours."""
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(allow=()), _name_the_logger, *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
    )
    handler = _LineHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for other in list(root.handlers):
        if isinstance(other, _LineHandler) or type(other) is logging.StreamHandler:
            root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(max(threshold, logging.WARNING))


def _name_the_logger(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        event["logger"] = record.name
    return event


class _LineHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # a library's broken log call is not our failure
            line = '{"event": "unprintable_log_record", "level": "warning"}'
        _Stdout().msg(line)


def _log_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    log.error("process_crashed", exc_info=(kind, error, trace))


def _log_thread_crash(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is not None:
        log.error("thread_crashed", exc_info=(crash.exc_type, crash.exc_value, crash.exc_traceback))


log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


def get_log(**fields: Any) -> structlog.typing.FilteringBoundLogger:
    """Return a log whose lines all carry `fields`."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger(**fields))
