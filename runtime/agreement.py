"""What the commands of several nodes tell each other while their processes run, and the one ending they agree on."""

from __future__ import annotations

import platform
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from runtime.crew import Crew
from runtime.errors import UserError
from runtime.meeting import Meeting, Message

_SHARED_FILE_TIMEOUT = 30.0  # s for a file that one node has written to appear on another
_RANKING = ("followed", "done", "lost", "failed", "yielded")  # which ending of a node is that of all: the last here


@dataclass(frozen=True)
class Ending:
    """How the processes of one node ended.

    ``how``: "done"; "failed"; "yielded" to a signal; "followed" those of another node; "lost" for a node that is gone.
    """

    how: str
    status: int
    sentence: str = ""
    suspicion: tuple[bool, float] = (True, float("inf"))  # the cause of several failures has the smallest


class Peers:
    """The other nodes of a launch, if there are any; without a meeting nothing happens."""

    def __init__(self, meeting: Meeting | None):
        self.meeting = meeting
        self.nodes = meeting.count if meeting else 1
        self._to_pass_on: list[int] = []
        self._from_peers: list[int] = []  # signals that a peer has told us of, and that may still come by themselves
        self._told: str | None = None

    @property
    def node(self) -> int:
        """Number of this node."""
        return self.meeting.rank or 0 if self.meeting else 0

    @property
    def here(self) -> str:
        """Says in a sentence which node this is."""
        return f" (node {self.node}, {platform.node()})" if self.meeting else ""

    def start(self, processes: int, folder: Path) -> None:
        """Wait for all nodes; raises `UserError` if they differ, or if ``folder`` is not the same one for all."""
        if self.meeting is None:
            return
        token = secrets.token_hex(8)
        if self.meeting.is_first:
            (folder / ".meeting").write_text(token, "utf-8")
        said = self.meeting.start(processes, token)
        deadline = time.monotonic() + _SHARED_FILE_TIMEOUT
        while not (folder / ".meeting").is_file() or (folder / ".meeting").read_text("utf-8") != said:
            if time.monotonic() > deadline:
                raise UserError(
                    f"{folder} is not the folder of node 0: several nodes need one on a file system they share"
                )
            time.sleep(0.5)

    def signal(self, crew: Crew, number: int) -> None:
        """A signal handler: for the workers of all nodes. A batch system may send it to all nodes itself."""
        if number in self._from_peers:
            self._from_peers.remove(number)
            return
        crew.received.append(number)
        self._to_pass_on.append(number)

    def exchange(self, crew: Crew) -> None:
        """Tell what happened here, hear what happened elsewhere."""
        if self.meeting is None:
            return
        while self._to_pass_on:
            self.meeting.tell("signal", number=self._to_pass_on.pop(0))
        happened = "failed" if crew.first_failure is not None else "yielded" if crew.yielded() else None
        if happened and happened != self._told:
            self._told = happened
            self.meeting.tell(happened)
        for message in self.meeting.heard():
            self._take(crew, message)

    def _take(self, crew: Crew, message: Message) -> None:
        kind = message["kind"]
        if kind == "signal" and message["number"] not in crew.received:
            self._from_peers.append(message["number"])
            crew.received.append(message["number"])
        elif kind in ("failed", "yielded"):
            crew.hear_from(kind)
        elif kind in ("gone", "left"):
            crew.hear_from("failed")

    def agree(self, mine: Ending) -> Ending:
        """The ending of all nodes, known to each of them once all have ended."""
        if self.meeting is None:
            return mine
        found = [self._ending(message) for message in self.meeting.conclude({"kind": "ending", **asdict(mine)})]
        worst = max(_RANKING.index(ending.how) for ending in found)
        same = [ending for ending in found if ending.how == _RANKING[worst]]
        if same[0].how == "done":
            return max(same, key=lambda ending: ending.status)
        return min(same, key=lambda ending: ending.suspicion)

    def _ending(self, message: Message) -> Ending:
        if message["kind"] != "ending":
            return Ending("lost", message.get("status") or 1, self.meeting.lost(message))
        how, status, sentence, suspicion = (message[key] for key in ("how", "status", "sentence", "suspicion"))
        return Ending(how, status, sentence, tuple(suspicion))
