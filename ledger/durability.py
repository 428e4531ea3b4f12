"""Whether a Redis may be trusted with balances: asked at start-up and by `level5 doctor`."""

from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from ledger.errors import BalanceUnavailable


@dataclass(frozen=True, slots=True)
class DurabilityFinding:
    """One thing that is wrong: `refuse` where starting would risk balances, else a warning. The text says what to do."""

    refuse: bool
    setting: str
    text: str


async def durability_findings(redis: Redis) -> list[DurabilityFinding]:
    """Return what could make this Redis lose or evict balances; empty where all is well.

    Raises:
        BalanceUnavailable: Redis did not answer.
    """
    client: Any = redis
    try:
        facts = {**await client.info("replication"), **await client.info("persistence")}
        settings = {}
        for name in ("maxmemory", "maxmemory-policy", "appendonly", "appendfsync", "min-replicas-to-write"):
            settings.update(await client.config_get(name))
    except ResponseError as error:
        # Hosted services forbid CONFIG: nothing can be said for certain, so the operator has to know.
        return [
            DurabilityFinding(refuse=False, setting="config", text=f"Redis does not show its settings ({error}); make sure that it never evicts and is durable")
        ]
    except (RedisError, OSError) as error:
        raise BalanceUnavailable(f"Redis did not answer: {error}") from error
    texts = {_text(name): _text(value) for name, value in settings.items()}
    return [finding for finding in (*_memory_findings(texts), *_disk_findings(texts, facts), *_replica_findings(texts, facts)) if finding is not None]


def _memory_findings(settings: dict[str, str]) -> list[DurabilityFinding]:
    findings = []
    policy = settings.get("maxmemory-policy", "")
    if policy != "noeviction":
        findings.append(DurabilityFinding(refuse=True, setting="maxmemory-policy", text=f"is {policy}: Redis could evict balances; set it to noeviction"))
    if settings.get("maxmemory", "0") == "0":
        text = "is not set: a full machine would kill Redis instead of new requests being refused; set it below the machine's memory"
        findings.append(DurabilityFinding(refuse=False, setting="maxmemory", text=text))
    return findings


def _disk_findings(settings: dict[str, str], facts: dict[str, Any]) -> list[DurabilityFinding]:
    findings = []
    if settings.get("appendonly") != "yes":
        text = "is off: after a crash every shard is rebuilt from the journal and recent charges come back from the workers alone; set it to yes"
        findings.append(DurabilityFinding(refuse=False, setting="appendonly", text=text))
    elif settings.get("appendfsync") != "always":
        text = f"is {settings.get('appendfsync')}: a power cut can lose the last charges; set it to always"
        findings.append(DurabilityFinding(refuse=False, setting="appendfsync", text=text))
    if _text(facts.get("aof_last_write_status", "ok")) != "ok":
        findings.append(DurabilityFinding(refuse=True, setting="aof_last_write_status", text="Redis cannot write to its disk; make room and check its log"))
    return findings


def _replica_findings(settings: dict[str, str], facts: dict[str, Any]) -> list[DurabilityFinding]:
    if _text(facts.get("role", "master")) != "master":
        return [DurabilityFinding(refuse=True, setting="role", text="this Redis is a replica; point LEVEL5_REDIS_URL at the primary")]
    replicas = int(facts.get("connected_slaves", 0))
    if replicas and int(settings.get("min-replicas-to-write", "0") or "0") < 1:
        text = f"is 0 with {replicas} replicas: an automatic failover could forget charges; set it to 1, or fail over by hand only"
        return [DurabilityFinding(refuse=True, setting="min-replicas-to-write", text=text)]
    return []


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
