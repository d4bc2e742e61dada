"""One step of a plan: an action, and what its reader should know of it before it is done."""

from __future__ import annotations

from dataclasses import dataclass

from sgxkit.host.setup.actions import Action, AskPerson
from sgxkit.messages import Message


@dataclass(frozen=True, slots=True)
class Step:
    """An action in its place.

    id        stable name within a plan, also in the journal.
    why       why this host needs it.
    risks     what could go wrong, and what it takes away.
    after     steps that this one follows from: it is due only when one of them is.
    reboot    whether it takes effect at the next boot.
    ends      whether nothing after it makes sense until it is done.
    renews    whether it is due though its state seems to hold (a key that has expired).
    todo      for a person: what to do, in order.
    commands  for a person: lines to type, where there are any.
    """

    id: str
    action: Action
    why: Message
    risks: tuple[Message, ...] = ()
    after: tuple[str, ...] = ()
    reboot: bool = False
    ends: bool = False
    renews: bool = False
    todo: tuple[Message, ...] = ()
    commands: tuple[str, ...] = ()
    link: str | None = None

    @property
    def by_person(self) -> bool:
        return isinstance(self.action, AskPerson)
