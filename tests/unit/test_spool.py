"""Charges on disk."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.entries import AccountId, ChargeRecord, RequestId, UsageLine
from ledger.money import Microunits
from ledger.spool import LINES_MAX, Spool, UnpostedCharge


def record_of(identity: str) -> ChargeRecord:
    line = UsageLine(provider="openai", model="gpt-4o", input_tokens=3, fees=(("web_search", 1),))
    return ChargeRecord(
        request_id=RequestId(identity), provider="openai", model="gpt-4o", operation="chat_completions", lines=(line,), amount=Microunits(7),
        provider_leg=Microunits(6), numerator=6_500_000, list_numerator=6_000_000, rate_card="card", started_at=1,
    )  # fmt: skip


def charge_of(identity: str) -> UnpostedCharge:
    return UnpostedCharge(record=record_of(identity), account=AccountId(1), shard=2, epoch=3)


def contents(spool: Spool) -> list[str]:
    return [charge.record.request_id for file in spool.replay() for charge in spool.read(file)]


def test_a_kept_charge_is_read_back_whole(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")

    spool.append(record_of("a"), AccountId(1), 2, 3)

    assert [spool.read(file) for file in spool.replay()] == [[charge_of("a")]]
    assert spool.depth == 1


def test_the_state_of_a_charge_survives_the_disk() -> None:
    charge = replace(charge_of("a"), seq=9, late=True)

    assert UnpostedCharge.from_line(charge.to_line()) == charge


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b'"x"', b"{", b'{"record":"{}"}'])
def test_a_line_that_is_no_charge_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        UnpostedCharge.from_line(line)


def test_files_are_closed_to_others(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.append(record_of("a"), AccountId(1), 2, 3)

    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "spool").iterdir()} == {0o600}


def test_a_delivered_file_is_removed_and_a_grown_one_is_not(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(record_of("a"), AccountId(1), 2, 3)
    (file,) = spool.replay()
    spool.append(record_of("b"), AccountId(1), 2, 3)

    spool.remove(file, delivered=1)
    assert contents(spool) == ["a", "b"]
    spool.append(record_of("c"), AccountId(1), 2, 3)
    spool.remove(file, delivered=2)

    assert contents(spool) == ["c"]
    assert len(list(tmp_path.iterdir())) == 1


def test_files_have_a_most_of_lines(tmp_path: Path) -> None:
    spool = Spool(tmp_path)

    spool.append_all([charge_of(str(number)) for number in range(2 * LINES_MAX + 1)])

    assert [file.lines for file in spool.replay()] == [LINES_MAX, LINES_MAX, 1]
    assert len(contents(spool)) == 2 * LINES_MAX + 1


def test_the_files_of_a_living_process_are_left_alone_and_those_of_a_dead_one_adopted(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom ledger.spool import Spool, UnpostedCharge\n"
        "Spool(Path(sys.argv[1])).append_all([UnpostedCharge.from_line(sys.stdin.buffer.readline())])\n"
        "print('kept', flush=True)\nsys.stdin.read()\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(charge_of("a").to_line())
        process.stdin.flush()
        assert process.stdout.readline() == b"kept\n"
        spool = Spool(tmp_path)
        assert spool.replay() == []
        process.kill()
        process.wait()

    assert contents(spool) == ["a"]
    assert contents(Spool(tmp_path)) == []  # one owner at a time
    spool.close()
    assert contents(Spool(tmp_path)) == ["a"]


def test_a_line_cut_short_by_a_crash_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "1-x.charges").write_bytes(charge_of("a").to_line() + charge_of("b").to_line()[:40])
    spool = Spool(tmp_path)

    assert contents(spool) == ["a"]
    (file,) = spool.replay()
    spool.remove(file, delivered=1)
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_an_unreadable_line_is_kept_aside(tmp_path: Path) -> None:
    (tmp_path / "1-x.charges").write_bytes(b"nonsense\n" + charge_of("a").to_line())
    spool = Spool(tmp_path)
    (file,) = spool.replay()

    assert contents(spool) == ["a"]
    spool.remove(file, delivered=1)

    assert [path.name for path in tmp_path.iterdir()] == ["1-x.unreadable"]
    assert contents(spool) == []


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)
    spool.append(record_of("a"), AccountId(1), 2, 3)
    write = os.write

    def write_some(descriptor: int, content: bytes) -> int:
        if len(content) < 300:
            raise OSError(28, "No space left on device")
        return write(descriptor, content[: len(content) // 2])

    monkeypatch.setattr(os, "write", write_some)
    with pytest.raises(OSError, match="No space"):
        spool.append(record_of("b"), AccountId(1), 2, 3)
    monkeypatch.setattr(os, "write", write)
    spool.append(record_of("c"), AccountId(1), 2, 3)

    assert contents(spool) == ["a", "c"]


def test_a_spool_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert Spool(tmp_path / "spool").writable()
    assert not Spool(tmp_path / "file").writable()
    with pytest.raises(OSError):
        Spool(tmp_path / "file").append(record_of("a"), AccountId(1), 2, 3)
    full = Spool(tmp_path / "spool", bytes_max=10)
    full.append(record_of("a"), AccountId(1), 2, 3)
    assert not full.writable()
