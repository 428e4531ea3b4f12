"""The Claude Code hook: `python -m plutus_agent.hook` counts what a session used since the hook last ran.

Claude Code runs it when the agent or a subagent stops, with a JSON payload on standard input. It says nothing, always exits with 0,
and is over after PLUTUS_HOOK_SECONDS (8) at the latest. What could not be sent by then goes out the next time.
"""

import json
import os
import re
import sys
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from plutus_agent.delivery import SPLIT_AT
from plutus_agent.errors import PlutusError, PlutusUsageError
from plutus_agent.file_locks import try_lock
from plutus_agent.hook_state import HookState
from plutus_agent.meter import Meter, home_folder
from plutus_agent.remote import BATCH_MAX
from plutus_agent.transcripts import SeenMessage
from plutus_agent.usage_figures import read_anthropic

SECONDS_MAX = 8.0
PAYLOAD_BYTES_MAX = 32 * 1024 * 1024
# A server takes late events for some weeks only; older ones are told to have happened when they are sent.
LATE_DAYS_MAX = 30
_SEPARATORS = re.compile(r"[/\\]+")


def main() -> int:
    """Run the hook; nothing that happens in it may ever disturb its host."""
    seconds = _seconds_max()
    # The last resort against whatever does not keep its time, such as a standard input that never ends.
    last_resort = threading.Timer(seconds, os._exit, (0,))
    last_resort.daemon = True
    last_resort.start()
    try:
        payload = json.loads(sys.stdin.buffer.read(PAYLOAD_BYTES_MAX))
        if isinstance(payload, dict):
            run_hook(payload, deadline=time.monotonic() + seconds * 0.8)
    except Exception:  # noqa: S110 - silent by contract
        pass
    return 0


def run_hook(payload: Mapping[str, Any], *, deadline: float) -> None:
    """Count what a payload tells of, and send it, all before the deadline.

    Raises:
        PlutusError: it could not be counted, or not be sent now.
    """
    home = home_folder()
    state = HookState(home / "claude-code.db")
    try:
        count_payload(payload, state, deadline=deadline)
        turn = home / "claude-code.sending"
        turn.touch(mode=0o600)
        # Sessions stop at the same moment; one of them sends for all.
        handle = try_lock(turn, create=False)
        if handle is not None:
            send_waiting(state, deadline=deadline)
            os.close(handle)
    finally:
        state.close()


def count_payload(payload: Mapping[str, Any], state: HookState, *, deadline: float) -> None:
    """Lay by the events of a payload: of the usage in it if there is one, else of what is new in the transcripts it names."""
    common = {
        "provider": _text(payload, "provider") or "anthropic",
        "task_type": _text(payload, "task_type") or "coding",
        "workspace": workspace_of(payload),
        "source": "claude-code",
    }

    def event_of(fields: Mapping[str, Any]) -> dict[str, Any]:
        return {**common, **fields}

    message = _message_in(payload)
    if message is not None:
        state.count_message(message, event_of=event_of)
        return
    # A subagent of newer versions has a transcript of its own beside the session's.
    for name in ("agent_transcript_path", "transcript_path"):
        path = _text(payload, name)
        if path is not None and Path(path).expanduser().is_file():
            state.read_transcript(Path(path).expanduser().resolve(), deadline=time.monotonic() + (deadline - time.monotonic()) / 2, event_of=event_of)


def send_waiting(state: HookState, *, deadline: float) -> None:
    """Send what was laid by, in batches, as long as there is time.

    Raises:
        PlutusError: the server, or the local file, did not take it now.
    """
    waiting = state.waiting(BATCH_MAX)
    if not waiting:
        return
    with Meter(org=os.environ.get("PLUTUS_ORG") or "Claude Code", tier="pro") as meter:
        while waiting and (left := deadline - time.monotonic()) > 0.1:
            meter.timeout = left
            _send(meter, state, waiting)
            waiting = state.waiting(BATCH_MAX)


def _send(meter: Meter, state: HookState, waiting: list[tuple[int, dict[str, Any]]]) -> None:
    events = [{**event, "occurred_at": _moment(event.get("occurred_at"))} for _, event in waiting]
    try:
        meter.track_many(events)
    except PlutusError as error:
        if error.status not in SPLIT_AT or error.retry_after is not None:
            raise
        if len(waiting) > 1:
            middle = len(waiting) // 2
            _send(meter, state, waiting[:middle])
            _send(meter, state, waiting[middle:])
            return
        # An event that the server will never take, or took before, must not keep all later ones from it.
    state.sent(number for number, _ in waiting)


def workspace_of(payload: Mapping[str, Any]) -> str:
    """Return the name of the folder that the session works in."""
    folder = _text(payload, "cwd") or _text(payload, "workspace") or str(Path.cwd())
    return _SEPARATORS.split(folder.rstrip("/\\"))[-1][:200] or "claude-code"


def _message_in(payload: Mapping[str, Any]) -> SeenMessage | None:
    """Return the usage that stands in the payload itself; None when there is none, or it is all zeros."""
    held = payload.get("message")
    message: Mapping[str, Any] = held if isinstance(held, dict) else {}
    usage = payload.get("usage") or message.get("usage")
    if not isinstance(usage, dict):
        return None
    # The flat names that other tools write count as well.
    read = usage.get("cache_read_input_tokens") or usage.get("cache_read_tokens") or 0
    told = {"input_tokens": 0, "output_tokens": 0, **{name: value for name, value in usage.items() if value is not None}, "cache_read_input_tokens": read}
    try:
        figures = read_anthropic({"model": _text(payload, "model") or message.get("model") or "claude", "usage": told})
    except PlutusUsageError:
        return None
    named = message.get("id") or payload.get("message_id")
    unique = named if isinstance(named, str) and named else f"{time.time_ns()}-{os.getpid()}"
    return None if figures is None else SeenMessage(message_id=unique, figures=figures, at=None)


def _moment(text: Any) -> datetime | None:
    """Return the time of a message, None (which is now) where it is unreadable, in the future or too long ago."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00")) if isinstance(text, str) else None
    except ValueError:
        return None
    now = datetime.now(timezone.utc)
    return moment if moment is not None and moment.tzinfo is not None and now - timedelta(days=LATE_DAYS_MAX) < moment <= now else None


def _text(payload: Mapping[str, Any], name: str) -> str | None:
    value = payload.get(name)
    return value.strip() or None if isinstance(value, str) else None


def _seconds_max() -> float:
    try:
        return min(60.0, max(0.5, float(os.environ.get("PLUTUS_HOOK_SECONDS", SECONDS_MAX))))
    except ValueError:
        return SECONDS_MAX


if __name__ == "__main__":
    sys.exit(main())
