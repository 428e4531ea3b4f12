"""What the sandbox remembers of the requests it saw: enough for tests, no credentials."""

import hashlib
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

OPERATOR_KEY = "sandbox-operator-key"
CREDENTIAL_HEADERS = ("authorization", "x-api-key")
VISITS_MAX = 1000
BODY_BYTES_KEPT = 64 * 1024


@dataclass(slots=True)
class Visit:
    """One request and how its answer ended."""

    number: int
    connection: int
    method: str
    path: str
    query: str
    headers: dict[str, str]
    credential: str  # "operator", "wrong" or "missing"
    body_sha256: str
    body_bytes: int
    body: str
    script: str = ""
    status: int = 0
    ended: str = "open"  # then "complete", "cut" (as the script wanted) or "client_left"
    pieces_sent: int = 0
    bytes_sent: int = 0
    model: str = ""  # that the answer names; empty where nothing is billed
    billed: dict[str, int] = field(default_factory=dict)  # tokens by kind that the whole answer counts


@dataclass(slots=True)
class Visits:
    """The latest visits, and the number of all since the last reset."""

    count: int = 0
    latest: deque[Visit] = field(default_factory=lambda: deque(maxlen=VISITS_MAX))

    def add(self, *, connection: int, method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> Visit:
        """Remember a request; its credentials are replaced by a word about them."""
        self.count += 1
        visit = Visit(
            number=self.count,
            connection=connection,
            method=method,
            path=path,
            query=query,
            headers={name: f"<{judge_credential(value)}>" if name in CREDENTIAL_HEADERS else value for name, value in headers.items()},
            credential=judge_credentials(headers),
            body_sha256=hashlib.sha256(body).hexdigest(),
            body_bytes=len(body),
            body=body[:BODY_BYTES_KEPT].decode(errors="replace"),
        )
        self.latest.append(visit)
        return visit

    def reset(self) -> None:
        self.count = 0
        self.latest.clear()

    def report(self, *, bodies: bool) -> dict[str, Any]:
        """Return everything as JSON values; bodies only where they are asked for."""
        rows = [asdict(visit) for visit in self.latest]
        for row in rows:
            if not bodies:
                del row["body"]
        return {"count": self.count, "requests": rows}


def judge_credential(value: str) -> str:
    """Tell whether a header's value is an operator's key of the sandbox."""
    return "operator" if value.removeprefix("Bearer ").startswith(OPERATOR_KEY) else "wrong"


def judge_credentials(headers: dict[str, str]) -> str:
    """Judge all credentials of a request: a single wrong one spoils it, since a client's must never come here."""
    found = {judge_credential(headers[name]) for name in CREDENTIAL_HEADERS if name in headers}
    if not found:
        return "missing"
    return "wrong" if "wrong" in found else "operator"
