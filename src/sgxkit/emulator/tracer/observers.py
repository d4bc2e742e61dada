"""What a run tells: counts of everything (`Statistics`), and a line for each event (`Trace`)."""

from __future__ import annotations

import errno
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sgxkit.emulator.tracer.device import NAMES
from sgxkit.emulator.tracer.leaf_functions import Exception_
from sgxkit.emulator.tracer.machine import Observer
from sgxkit.emulator.tracer.ptrace import Registers
from sgxkit.emulator.tracer.tracee import Thread
from sgxkit.isa.leaf import Enclu
from sgxkit.messages import Message

_MOST_OCALLS = 1 << 16


@dataclass(slots=True)
class ThreadCounts:
    """Of one thread; times in seconds."""

    entries: int = 0
    asynchronous_exits: int = 0
    inside: float = 0.0
    outside: float = 0.0
    since: float = 0.0


@dataclass(slots=True)
class Statistics(Observer):
    """Counts of one run.

    leaves       ENCLU leaf functions by name.
    ioctls       ioctls of the device by name.
    exceptions   asynchronous exits by vector, -1 for interrupts.
    ocalls       what RDI held at EEXIT where it may be the index of an OCALL of Intel's SDK.
    threads      by thread number.
    """

    leaves: Counter[str] = field(default_factory=Counter)
    ioctls: Counter[str] = field(default_factory=Counter)
    exceptions: Counter[int] = field(default_factory=Counter)
    ocalls: Counter[int] = field(default_factory=Counter)
    threads: dict[int, ThreadCounts] = field(default_factory=dict)
    warnings: list[Message] = field(default_factory=list)

    def entered(self, thread: Thread, registers: Registers, leaf: Enclu) -> None:
        del registers
        self.leaves[leaf.name] += 1
        counts, now = self._counts(thread), time.perf_counter()
        counts.entries += 1
        if counts.since:
            counts.outside += now - counts.since
        counts.since = now

    def executed(self, thread: Thread, leaf: Enclu, result: int) -> None:
        del thread, result
        self.leaves[leaf.name] += 1

    def left(self, thread: Thread, registers: Registers) -> None:
        self.leaves[Enclu.EEXIT.name] += 1
        if registers.rdi < _MOST_OCALLS:
            self.ocalls[registers.rdi] += 1
        self._inside(thread)

    def interrupted(self, thread: Thread, exception: Exception_ | None, number: int, rip: int) -> None:
        del number, rip
        self.exceptions[-1 if exception is None else exception.vector] += 1
        self._counts(thread).asynchronous_exits += 1
        self._inside(thread)

    def ioctl(self, thread: Thread, command: int, result: int, reason: str) -> None:
        del thread, result, reason
        self.ioctls[NAMES.get(command, hex(command))] += 1

    def warned(self, message: Message) -> None:
        self.warnings.append(message)

    def document(self, epc_pages: int, epc_total: int, ocall_names: Mapping[int, str]) -> dict[str, object]:
        """All of it as JSON; `ocall_names` are those of an EDL file."""
        return {
            "emulated": True,
            "leaf_functions": dict(self.leaves),
            "ioctls": dict(self.ioctls),
            "asynchronous_exits": {
                "interrupt" if vector < 0 else str(vector): count for vector, count in sorted(self.exceptions.items())
            },
            "ocalls": [
                {"index": index, "name": ocall_names.get(index), "count": count}
                for index, count in sorted(self.ocalls.items())
            ],
            "epc_pages_most": epc_pages,
            "epc_pages": epc_total,
            "threads": [
                {
                    "thread": tid,
                    "entries": counts.entries,
                    "asynchronous_exits": counts.asynchronous_exits,
                    "seconds_inside": round(counts.inside, 6),
                    "seconds_outside": round(counts.outside, 6),
                }
                for tid, counts in self.threads.items()
            ],
        }

    def _counts(self, thread: Thread) -> ThreadCounts:
        return self.threads.setdefault(thread.tid, ThreadCounts())

    def _inside(self, thread: Thread) -> None:
        counts, now = self._counts(thread), time.perf_counter()
        counts.inside += now - counts.since
        counts.since = now


@dataclass(slots=True)
class Trace(Observer):
    """A line an event, as strace writes them."""

    write: Callable[[str], None]

    def entered(self, thread: Thread, registers: Registers, leaf: Enclu) -> None:
        self._line(thread, f"{leaf.name} rip={registers.rip:#x} rdi={registers.rdi:#x} rsi={registers.rsi:#x}")

    def executed(self, thread: Thread, leaf: Enclu, result: int) -> None:
        self._line(thread, f"{leaf.name} = {result}" if leaf is not Enclu.EREPORT else leaf.name)

    def left(self, thread: Thread, registers: Registers) -> None:
        self._line(thread, f"EEXIT rip={registers.rip:#x} rdi={registers.rdi:#x} rsi={registers.rsi:#x}")

    def interrupted(self, thread: Thread, exception: Exception_ | None, number: int, rip: int) -> None:
        what = "interrupt" if exception is None else f"exception {exception.vector}"
        address = f" address={exception.address:#x}" if exception is not None and exception.address else ""
        self._line(thread, f"AEX {what}{address} rip={rip:#x} signal={number}")

    def ioctl(self, thread: Thread, command: int, result: int, reason: str) -> None:
        failed = result >> 63
        name = errno.errorcode.get(2**64 - result, "") if failed else ""
        self._line(
            thread, f"{NAMES.get(command, hex(command))} = {-1 if failed else result} {name} {reason}".rstrip()
        )

    def opened(self, thread: Thread, path: str) -> None:
        self._line(thread, f"open {path}")

    def warned(self, message: Message) -> None:
        self.write(str(message))

    def _line(self, thread: Thread, text: str) -> None:
        self.write(f"[{thread.tid}] {text}")


@dataclass(slots=True)
class Both(Observer):
    """Tell two."""

    first: Observer
    second: Observer

    def entered(self, thread: Thread, registers: Registers, leaf: Enclu) -> None:
        self.first.entered(thread, registers, leaf)
        self.second.entered(thread, registers, leaf)

    def executed(self, thread: Thread, leaf: Enclu, result: int) -> None:
        self.first.executed(thread, leaf, result)
        self.second.executed(thread, leaf, result)

    def left(self, thread: Thread, registers: Registers) -> None:
        self.first.left(thread, registers)
        self.second.left(thread, registers)

    def interrupted(self, thread: Thread, exception: Exception_ | None, number: int, rip: int) -> None:
        self.first.interrupted(thread, exception, number, rip)
        self.second.interrupted(thread, exception, number, rip)

    def ioctl(self, thread: Thread, command: int, result: int, reason: str) -> None:
        self.first.ioctl(thread, command, result, reason)
        self.second.ioctl(thread, command, result, reason)

    def opened(self, thread: Thread, path: str) -> None:
        self.first.opened(thread, path)
        self.second.opened(thread, path)

    def warned(self, message: Message) -> None:
        self.first.warned(message)
        self.second.warned(message)
