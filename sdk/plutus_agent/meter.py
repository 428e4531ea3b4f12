"""The meter an agent holds: `track` what was used, and carry on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from plutus_agent.amounts import microunits_up, usd_float, usd_text
from plutus_agent.answers import result_of
from plutus_agent.delivery import Delivery, DeliveryState
from plutus_agent.errors import PlutusError
from plutus_agent.events import TOKEN_FIELDS, UsageEvent, moment_of, now, usage_event
from plutus_agent.remote import BATCH_MAX, Remote
from plutus_agent.results import TrackResult
from plutus_agent.spool import Spool

if TYPE_CHECKING:
    from plutus_agent.local import LocalBooks  # at run time only where it is used: most programs report to a server

RETRIES = 2
EXTRAS = ("baseline_cost_usd", "baseline_model", "baseline_input_tokens", "baseline_output_tokens", "external_ref", "user_id")


def home_folder() -> Path:
    """Return where the SDK keeps its files: PLUTUS_HOME, else `~/.plutus`."""
    return Path(os.environ.get("PLUTUS_HOME") or Path.home() / ".plutus")


class Meter:
    """Reports usage to a server (remote mode), or records it in a local file (local mode).

    Remote mode is chosen by `remote` or PLUTUS_REMOTE_URL, with `api_key` or PLUTUS_API_KEY; arguments win over the environment, and
    `remote=""` means local whatever the environment says. A meter may be shared by threads and survives a fork.
    """

    def __init__(
        self,
        org: str | None = None,
        *,
        remote: str | None = None,
        api_key: str | None = None,
        workspace: str | None = None,
        tier: str = "free",
        db_path: str | os.PathLike[str] | None = None,
        config: Mapping[str, Any] | None = None,
        create: bool = True,
        timeout: float = 10.0,
        buffered: bool = False,
        spool: str | os.PathLike[str] | None = None,
        spool_events_max: int = 100_000,
        interval: float = 1.0,
        exit_seconds: float = 5.0,
    ) -> None:
        """Open the meter.

        `workspace` is that of every event which names none. `org`, `tier`, `db_path`, `config` and `create` concern local mode.
        `timeout` bounds one `track`, its retries included. With `buffered`, events are written to the `spool` folder and sent in the
        background, at the latest after `interval` seconds; at exit the rest is given `exit_seconds`, and what then remains is sent at the
        next start. The spool holds up to `spool_events_max` events.

        Raises:
            ValueError: there is no key for the server, or an argument has no such value.
            PlutusError: the spool or the local file cannot be used.
        """
        url = os.environ.get("PLUTUS_REMOTE_URL") if remote is None else remote
        self.remote = (url or "").strip().rstrip("/") or None
        self.api_key = api_key or (os.environ.get("PLUTUS_API_KEY") or "").strip() or None
        self.timeout, self.workspace = timeout, workspace
        self._remote: Remote | None = None
        self._delivery: Delivery | None = None
        self._local: LocalBooks | None = None
        if self.remote is None:
            self._open_local(org, tier=tier, db_path=db_path, config=config, create=create)
        elif self.api_key is None:
            raise ValueError("a remote Meter needs an api_key, or PLUTUS_API_KEY in the environment")
        else:
            self._remote = Remote(self.remote, self.api_key)
            if buffered:
                folder = Path(spool) if spool is not None else home_folder() / "spool"
                # Events of another account must never be sent with this key.
                place = folder / hashlib.sha256(f"{self.remote}\0{self.api_key}".encode()).hexdigest()[:16]
                self._delivery = Delivery(
                    self._remote, Spool(place, events_max=spool_events_max), timeout=timeout, interval=interval, exit_seconds=exit_seconds
                )

    @property
    def is_remote(self) -> bool:
        """Whether events go to a server."""
        return self._remote is not None

    @property
    def org_id(self) -> str | None:
        """The id of the local organisation; None in remote mode, where the key decides."""
        return None if self._local is None else self._local.org_id

    def track(
        self,
        provider: str,
        *,
        model: str | None = None,
        task_type: str | None = "general",
        workspace: str | None = None,
        input_tokens: int = 0,
        output_tokens: int = 0,
        cache_read_tokens: int = 0,
        reasoning_tokens: int = 0,
        cost_usd: int | str | Decimal | float | None = None,
        cache_write_tokens: int = 0,
        cache_write_1h_tokens: int = 0,
        baseline_cost_usd: int | str | Decimal | float | None = None,
        baseline_model: str | None = None,
        baseline_input_tokens: int | None = None,
        baseline_output_tokens: int | None = None,
        external_ref: str | None = None,
        user_id: str | None = None,
        occurred_at: datetime | float | None = None,
        idempotency_key: str | None = None,
        source: str = "sdk",
    ) -> TrackResult:
        """Record one call.

        Every token is counted in one field only: input without what was cached, output without reasoning. `cache_write_1h_tokens` are
        those of `cache_write_tokens` that were written for an hour. `cost_usd` is the exact cost; without it the cost is estimated.
        An event that a hard stop refuses comes back as `recorded=False`.

        Raises:
            TypeError, ValueError: an argument has no such value; nothing was sent.
            PlutusAuthError: the server does not take the key.
            PlutusError: the event could not be recorded, or it is not known whether it was.
        """
        given = locals()  # all of them are fields of the event
        return self._track(self._event({name: given[name] for name in given if name != "self"}))

    def track_many(self, events: Iterable[Mapping[str, Any]]) -> list[TrackResult]:
        """Record calls, each a mapping of the arguments of `track`, a thousand to a request, and return their results in order.

        Raises:
            TypeError, ValueError: an argument has no such value; nothing was sent.
            PlutusError: as `track`. Those of earlier requests are recorded; with keys of one's own all can be sent again.
        """
        checked = [self._event(event) for event in events]
        if self._remote is None or self._delivery is not None:
            return [self._track(event) for event in checked]
        results: list[TrackResult] = []
        for start in range(0, len(checked), BATCH_MAX):
            batch = checked[start : start + BATCH_MAX]
            outcomes = self._remote.send([event.to_json() for event in batch], timeout=self.timeout, retries=RETRIES)
            results += [result_of(event, outcome, remote=self.remote or "") for event, outcome in zip(batch, outcomes, strict=True)]
        return results

    def topup(self, amount_usd: int | str | Decimal | float, reason: str = "topup") -> dict[str, Any]:
        """Add prepaid credit in local mode and return the entry.

        Raises:
            TypeError, ValueError: the amount is no number above zero.
            PlutusError: in remote mode, or the local file cannot be used.
        """
        books = self._local_only("topup")
        amount = microunits_up(usd_text(amount_usd))
        if amount == 0:
            raise ValueError("amount_usd must be above zero")
        return books.topup(amount, reason)

    def balance(self) -> float:
        """Return the balance of local mode in USD. `balance_microunits` is exact for any amount."""
        return usd_float(self.balance_microunits())

    def balance_microunits(self) -> int:
        """Return the balance of local mode in microunits (10⁻⁶ USD)."""
        return self._local_only("balance").balance()

    def summary(self) -> dict[str, Any]:
        """Return what local mode has recorded, at a glance."""
        from plutus_agent.local_summary import summarise

        return summarise(self._local_only("summary"))

    def delivery(self) -> DeliveryState:
        """Return how a buffered meter stands.

        Raises:
            PlutusError: the meter is not buffered.
        """
        if self._delivery is None:
            raise PlutusError("delivery() is for a buffered meter")
        return self._delivery.state()

    def flush(self, timeout: float | None = None) -> bool:
        """Send what is buffered and tell whether nothing is left; True at once where nothing is buffered."""
        return True if self._delivery is None else self._delivery.flush(timeout)

    def close(self, timeout: float | None = None) -> bool:
        """Flush and let go of files and connections; tell whether everything was sent."""
        done = True if self._delivery is None else self._delivery.close(timeout)
        if self._remote is not None:
            self._remote.close()
        if self._local is not None:
            self._local.close()
        return done

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _open_local(self, org: str | None, *, tier: str, db_path: str | os.PathLike[str] | None, config: Mapping[str, Any] | None, create: bool) -> None:
        from plutus_agent.local import LocalBooks, LocalRules
        from plutus_agent.local_database import Database

        path = Path(db_path or os.environ.get("PLUTUS_DB") or home_folder() / "plutus.db")
        self._local = LocalBooks(Database(path), org, tier=tier, create=create, rules=LocalRules.read(config))

    def _local_only(self, what: str) -> LocalBooks:
        if self._local is None:
            raise PlutusError(f"{what}() is not available in remote mode: read it from the dashboard, or from a result of track()")
        return self._local

    def _event(self, given: Mapping[str, Any]) -> UsageEvent:
        moment = given.get("occurred_at")
        extras = {name: given.get(name) for name in EXTRAS}
        if extras["baseline_cost_usd"] is not None:
            extras["baseline_cost_usd"] = float(usd_text(extras["baseline_cost_usd"]))  # a comparison to show, never money
        # What waits in a spool happened now, whenever it arrives.
        extras["occurred_at"] = moment_of(moment) if moment is not None else now() if self._delivery is not None else None
        return usage_event(
            provider=given.get("provider"),
            model=given.get("model"),
            task_type=given.get("task_type"),
            workspace=given.get("workspace") or self.workspace,
            source=given.get("source"),
            tokens={name: given.get(name) for name in TOKEN_FIELDS},
            cost_usd=given.get("cost_usd"),
            extras=extras,
            idempotency_key=given.get("idempotency_key"),
        )

    def _track(self, event: UsageEvent) -> TrackResult:
        if self._delivery is not None:
            taken = self._delivery.put(event.to_json())
            return TrackResult(
                event_id="", org_id=self.remote or "", provider=event.provider, model=event.model, task_type=event.task_type, recorded=taken, queued=taken
            )
        if self._remote is None:
            return self._local_only("track").record(event)
        outcome = self._remote.send([event.to_json()], timeout=self.timeout, retries=RETRIES)[0]
        return result_of(event, outcome, remote=self.remote or "")
