"""What would change a verdict: a sentence, and the commands for this host. Nothing here is ever run."""

from __future__ import annotations

from dataclasses import dataclass

from sgxkit.messages import Message


@dataclass(frozen=True, slots=True)
class Remedy:
    """One thing to do.

    `commands` are lines for a POSIX shell as root (`root`) or as the user who asked; a line may be a comment where
    the next step is not a command. `reboot`: it takes effect at the next boot. `firmware`: it is done in the
    BIOS set-up, by hand.
    """

    id: str
    title: Message
    commands: tuple[str, ...] = ()
    root: bool = False
    reboot: bool = False
    firmware: bool = False
    link: str | None = None
