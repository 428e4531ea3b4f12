"""An assembler for Solana's bytecode (SBPF version 0) and the linker that makes a program of it, as small as they can be."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass


class Assembler:
    """Collects instructions of SBPF version 0; jumps and calls are resolved by `elf`."""

    def __init__(self) -> None:
        self._code: list[bytes] = []
        self._labels: dict[str, int] = {}
        self._jumps: list[tuple[int, str]] = []
        self._calls: list[tuple[int, str]] = []

    def emit(self, opcode: int, target: int = 0, *, source: int = 0, offset: int = 0, value: int = 0) -> None:
        self._code.append(struct.pack("<BBhI", opcode, source << 4 | target, offset, value & 0xFFFFFFFF))

    def copy(self, target: int, source: int) -> None:
        self.emit(0xBF, target, source=source)

    def put(self, target: int, value: int) -> None:
        self.emit(0xB7, target, value=value)

    def put_wide(self, target: int, value: int) -> None:
        self.emit(0x18, target, value=value)
        self.emit(0, value=value >> 32)

    def add(self, target: int, value: int) -> None:
        self.emit(0x07, target, value=value)

    def add_register(self, target: int, source: int) -> None:
        self.emit(0x0F, target, source=source)

    def mask(self, target: int, value: int) -> None:
        self.emit(0x57, target, value=value)

    def load(self, target: int, source: int, offset: int, *, size: int = 8) -> None:
        self.emit({1: 0x71, 4: 0x61, 8: 0x79}[size], target, source=source, offset=offset)

    def store(self, target: int, source: int, offset: int, *, size: int = 8) -> None:
        self.emit({1: 0x73, 8: 0x7B}[size], target, source=source, offset=offset)

    def store_value(self, target: int, value: int, offset: int, *, size: int = 8) -> None:
        self.emit({1: 0x72, 8: 0x7A}[size], target, offset=offset, value=value)

    def label(self, name: str) -> None:
        self._labels[name] = len(self._code)

    def jump(self, name: str) -> None:
        self._jump(0x05, name)

    def jump_if_equal(self, name: str, register: int, value: int) -> None:
        self._jump(0x15, name, register, value=value)

    def jump_unless_equal(self, name: str, register: int, value: int) -> None:
        self._jump(0x55, name, register, value=value)

    def jump_unless_same(self, name: str, register: int, other: int) -> None:
        self._jump(0x5D, name, register, source=other)

    def _jump(self, opcode: int, name: str, register: int = 0, *, source: int = 0, value: int = 0) -> None:
        self._jumps.append((len(self._code), name))
        self.emit(opcode, register, source=source, value=value)

    def call(self, name: str) -> None:
        self._calls.append((len(self._code), name))
        self.emit(0x85, value=-1)

    def leave(self, result: int | None = None) -> None:
        if result is not None:
            self.put(0, result)
        self.emit(0x95)

    def elf(self) -> bytes:
        """Return the program as a shared object that the loader takes."""
        code = list(self._code)
        for at, name in self._jumps:
            code[at] = code[at][:2] + struct.pack("<h", self._labels[name] - at - 1) + code[at][4:]
        return link(b"".join(code), self._calls)


@dataclass(frozen=True)
class Section:
    name: str
    kind: int
    flags: int
    body: bytes
    link: int = 0
    info: int = 0
    entry_bytes: int = 0


def link(text: bytes, calls: Sequence[tuple[int, str]]) -> bytes:
    """Return an ELF file of `text`, whose `calls` (index of instruction, name of system call) the loader resolves."""
    names = sorted({name for _, name in calls})
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in names)
    symbols = bytes(24) + b"".join(struct.pack("<IBBHQQ", strings.index(b"\0" + name.encode() + b"\0") + 1, 0x10, 0, 0, 0, 0) for name in names)
    text_at = 64 + 3 * 56
    symbols_at = _aligned(text_at + len(text))
    strings_at = _aligned(symbols_at + len(symbols))
    relocations_at = _aligned(strings_at + len(strings))
    relocations = b"".join(struct.pack("<QQ", text_at + 8 * at, (names.index(name) + 1) << 32 | 10) for at, name in calls)
    dynamic_at = _aligned(relocations_at + len(relocations))
    tags = ((17, relocations_at), (18, len(relocations)), (19, 16), (6, symbols_at), (11, 24), (5, strings_at), (0, 0))
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in tags)
    sections = [
        Section(".text", 1, 6, text),
        Section(".dynsym", 11, 2, symbols, link=3, info=1, entry_bytes=24),
        Section(".dynstr", 3, 2, strings),
        Section(".rel.dyn", 9, 2, relocations, link=2, entry_bytes=16),
        Section(".dynamic", 6, 3, dynamic, link=3, entry_bytes=16),
    ]
    places = [text_at, symbols_at, strings_at, relocations_at, dynamic_at]
    return _assemble(sections, places)


def _aligned(place: int) -> int:
    return (place + 7) // 8 * 8


def _assemble(sections: Sequence[Section], places: Sequence[int]) -> bytes:
    labels = b"\0" + b"".join(one.name.encode() + b"\0" for one in sections) + b".shstrtab\0"
    labels_at = places[-1] + len(sections[-1].body)
    table_at = _aligned(labels_at + len(labels))
    body = bytearray(table_at)
    table = [bytes(64)]
    for one, place in zip(sections, places, strict=True):
        body[place : place + len(one.body)] = one.body
        name = labels.index(b"\0" + one.name.encode() + b"\0") + 1
        table.append(struct.pack("<IIQQQQIIQQ", name, one.kind, one.flags, place, place, len(one.body), one.link, one.info, 8, one.entry_bytes))
    body[labels_at : labels_at + len(labels)] = labels
    table.append(struct.pack("<IIQQQQIIQQ", labels.index(b".shstrtab"), 3, 0, 0, labels_at, len(labels), 0, 0, 1, 0))
    body[:64] = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1" + bytes(9), 3, 247, 1, places[0], 64, table_at, 0, 64, 56, 3, 64, len(table), len(table) - 1)
    end = places[-1] + len(sections[-1].body)
    segments = [(1, 5, places[0], len(sections[0].body)), (1, 4, places[1], end - places[1]), (2, 6, places[-1], len(sections[-1].body))]
    body[64 : 64 + 3 * 56] = b"".join(struct.pack("<IIQQQQQQ", kind, flags, at, at, at, size, size, 8) for kind, flags, at, size in segments)
    return bytes(body) + b"".join(table)
