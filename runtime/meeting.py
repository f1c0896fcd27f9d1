"""Several machines that run one command together: where they meet, and what their commands tell each other.

The command of the first node listens at ``--master``; the others join it there and get their number. The connections
stay open until the end: a signal, a failure or the loss of one node is known to all at once, whatever the processes
are waiting for, and all end with the same sentence and the same status.
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from runtime.console import log
from runtime.errors import UserError
from runtime.nodes import Place

JOIN_TIMEOUT = 900.0  # s to wait for all nodes to come, and for the first one to answer
_ANSWER_TIMEOUT = 30.0  # s for a message to be taken
_RETRY = 0.25  # s between attempts to reach the first node
_FAREWELL = 2.0  # s for a first node that ends early to tell those that are about to come
_VERSION = "paddlestems-nodes-1"

Message = dict[str, Any]


@contextmanager
def meet(where: Place | None) -> Iterator[Meeting | None]:
    """Take part in the meeting at ``where`` while the block runs; ``None`` in, ``None`` out.

    A block that ends before `Meeting.conclude` takes the other nodes along: they end with its sentence and its status.
    """
    if where is None:
        yield None
        return
    meeting = _open(where)
    try:
        yield meeting
    except UserError as error:
        meeting.leave(error.status, str(error))
        raise
    except SystemExit as leaving:
        meeting.leave(leaving.code if isinstance(leaving.code, int) else 1, "")
        raise
    finally:
        meeting.close()


def _open(where: Place) -> Meeting:
    """Listen if this is the first node, or if that is open and the address is ours and free; join otherwise."""
    if where.rank in (None, 0):
        listener, problem = _listen(where)
        if listener is not None:
            return _First(where, listener)
        if where.rank == 0:
            raise UserError(
                f"the first node cannot listen at --master {where}: {problem}; choose another address or port"
            )
    log(f"joining the first node at {where}")
    return _Other(where, _connect(where))


def _listen(where: Place) -> tuple[socket.socket | None, str]:
    address = _resolve(where)
    own_name = address.startswith("127.") and where.host != "localhost" and not where.host.startswith("127.")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        # many systems know themselves as 127.0.1.1, where no other node can reach them
        listener.bind(("" if own_name else address, where.port))
        listener.listen(where.count)
    except OSError as error:
        listener.close()
        if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
            raise
        return None, os.strerror(error.errno)
    return listener, ""


def _resolve(where: Place) -> str:
    try:
        return socket.gethostbyname(where.host)
    except OSError as error:
        raise UserError(
            f"--master {where}: {where.host} is no known host: check the name or give its address"
        ) from error


def _connect(where: Place) -> socket.socket:
    address, deadline = _resolve(where), time.monotonic() + JOIN_TIMEOUT
    while True:
        try:
            return socket.create_connection((address, where.port), timeout=_ANSWER_TIMEOUT)
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"nobody listens at --master {where} after {JOIN_TIMEOUT:.0f} s ({error}): start the first node, "
                    "and open the port"
                ) from error
            time.sleep(_RETRY)


class _Line:
    """One connection: messages as lines of JSON."""

    def __init__(self, connection: socket.socket):
        connection.settimeout(_ANSWER_TIMEOUT)
        for option, value in ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3)):
            connection.setsockopt(socket.IPPROTO_TCP, option, value)  # a machine without power says no goodbye
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.connection, self.address = connection, connection.getsockname()[0]
        self.node: int | None = None
        self.concluded = self.closed = False
        self._rest = b""

    def send(self, message: Message) -> None:
        if self.closed:
            return
        try:
            self.connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return  # reading notices that it is closed

    def receive(self, wait: float = 0.0) -> list[Message]:
        """What has come; a ``gone`` at the end if the other side closed the connection before it was through."""
        if self.closed or not select.select([self.connection], [], [], wait)[0]:
            return []
        try:
            new = self.connection.recv(2**16)
        except OSError:
            new = b""
        *lines, self._rest = (self._rest + new).split(b"\n")
        messages = [_decode(line) for line in lines]
        if not new:
            self.closed = True
            return [] if self.concluded else [{"kind": "gone"}]
        return messages


def _decode(line: bytes) -> Message:
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    return message if isinstance(message, dict) and "kind" in message else {"kind": "noise"}


class Meeting(ABC):
    """The nodes of a job, as one of them sees them.

    Attributes:
        count: how many there are
        rank: which one this is, from 0; known for the first node at once, for the others after `start`
        master: after `start`, an address of the first node for paddle's launchers to meet
        address: after `start`, the address of this node that the others reach
    """

    def __init__(self, where: Place):
        self.where, self.count, self.rank = where, where.count, where.rank
        self.master = self.address = ""
        self.over = False

    @property
    def is_first(self) -> bool:
        """Whether this is the node that prepares the run and writes."""
        return self.rank == 0

    @abstractmethod
    def start(self, processes: int, token: str) -> str:
        """Wait until all nodes are here, each with so many ``processes``; returns the first one's ``token``.

        Raises `UserError` if the nodes do not fit together, or one of them has ended.
        """

    @abstractmethod
    def tell(self, kind: str, **content: Any) -> None:
        """Send a message to all other nodes."""

    @abstractmethod
    def heard(self) -> list[Message]:
        """Messages of other nodes since the last call, ``gone`` for the end of a node that did not conclude."""

    @abstractmethod
    def conclude(self, outcome: Message) -> list[Message]:
        """Hand in how this node ended, wait for all, and return the outcomes that are known, by node."""

    @abstractmethod
    def close(self) -> None:
        """Hang up."""

    def leave(self, status: int, sentence: str) -> None:
        """Tell the others that this node ends now and takes them along."""
        if not self.over:
            self.tell("left", status=status, sentence=sentence)

    def lost(self, message: Message) -> str:
        """A sentence about a node that is ``gone`` or has ``left``."""
        who = f"node {message['node']}" if message.get("node") is not None else "a node"
        if message.get("sentence"):
            return f"{who}: {message['sentence']}"
        how = f"ended with status {message['status']}" if "status" in message else "is gone"
        return f"{who} of {self.count} {how}, and the others cannot go on without it; its own log says why"

    def _check(self, messages: list[Message]) -> None:
        """End with a node that ends before the start."""
        for message in messages:
            if message["kind"] in ("gone", "left"):
                raise UserError(self.lost(message), message.get("status") or 1)
            if message["kind"] == "noise":
                raise UserError(f"what answers at --master {self.where} is no node of this job: choose another port")


class _First(Meeting):
    """The node that listens, assigns the numbers and relays the messages."""

    def __init__(self, where: Place, listener: socket.socket):
        super().__init__(where)
        self.rank = 0
        self._listener, self._lines = listener, []
        self._waiting: list[_Line] = []
        self._started = False
        self._ended: dict[int | None, Message] = {}  # outcomes, or how a node left without one

    def start(self, processes: int, token: str) -> str:
        """Accept the others; those that do not fit are sent away with the reason."""
        missing = self.count - 1
        log(f"node 0 of {self.count} at {self.where}: waiting for {missing} more")
        deadline = time.monotonic() + JOIN_TIMEOUT
        while len(self._lines) < self.count - 1:
            if time.monotonic() > deadline:
                here = 1 + len(self._lines)
                raise UserError(f"only {here} of {self.count} nodes came to {self.where} in {JOIN_TIMEOUT:.0f} s")
            self._admit(processes)
            self._check(self.heard())
        self._started = True
        self._listener.close()
        self._number()
        self.address = self._lines[0].address
        self.master = f"{self.address}:{_free_port(self.address)}"
        for line in self._lines:
            line.send({"kind": "start", "rank": line.node, "master": self.master, "token": token})
        return token

    def _admit(self, processes: int) -> None:
        for line, message in self._greeted():
            if message["kind"] == "hello" and message.get("version") == _VERSION:
                self._welcome(line, message, processes)
            else:
                line.connection.close()  # a port scan, a browser

    def _greeted(self) -> Iterator[tuple[_Line, Message]]:
        """Accept who comes; those that have said something, and what."""
        ready = select.select([self._listener, *(line.connection for line in self._waiting)], [], [], _RETRY)[0]
        if self._listener in ready:
            self._waiting.append(_Line(self._listener.accept()[0]))
        for line in list(self._waiting):
            for message in line.receive()[:1]:
                self._waiting.remove(line)
                yield line, message

    def _welcome(self, line: _Line, hello: Message, processes: int) -> None:
        theirs, wanted = (hello["count"], hello["processes"]), hello["rank"]
        complaint = ""
        if theirs != (self.count, processes):
            complaint = (
                f"the commands of the nodes differ: --nnodes {self.count} -npn {processes} on node 0, "
                f"--nnodes {theirs[0]} -npn {theirs[1]} on another"
            )
        elif wanted is not None and wanted in (0, *(other.node for other in self._lines)):
            complaint = f"two nodes say --node-rank {wanted}: each needs a number of its own"
        self._lines.append(line)
        if complaint:
            raise UserError(complaint, status=2)  # which it hears, too
        line.node = wanted

    def _number(self) -> None:
        """Numbers for those that did not ask for one, in the order in which they came."""
        taken = {line.node for line in self._lines}
        free = iter(number for number in range(1, self.count) if number not in taken)
        for line in self._lines:
            line.node = next(free) if line.node is None else line.node

    def tell(self, kind: str, **content: Any) -> None:
        self._send({"kind": kind, "node": 0, **content})

    def _send(self, message: Message, but: _Line | None = None) -> None:
        for line in self._lines:
            if line is not but:
                line.send(message)

    def leave(self, status: int, sentence: str) -> None:
        super().leave(status, sentence)
        deadline = time.monotonic() + _FAREWELL
        while not self._started and len(self._lines) < self.count - 1 and time.monotonic() < deadline:
            for line, _ in self._greeted():
                line.send({"kind": "left", "node": 0, "status": status, "sentence": sentence})
                self._lines.append(line)

    def heard(self) -> list[Message]:
        found = []
        for line in self._lines:
            for message in line.receive():
                message["node"] = line.node
                if message["kind"] in ("outcome", "gone", "left"):
                    line.concluded = True
                    self._ended[line.node] = message.get("outcome", message)
                if message["kind"] != "outcome":
                    self._send(message, but=line)
                    found.append(message)
        return found

    def conclude(self, outcome: Message) -> list[Message]:
        while len(self._ended) < self.count - 1:
            self.heard()
            time.sleep(_RETRY / 2)
        found = [outcome, *(self._ended[node] for node in sorted(self._ended))]
        self.tell("outcomes", outcomes=found)
        self.over = True
        return found

    def close(self) -> None:
        for line in [*self._lines, *self._waiting]:
            line.connection.close()
        self._listener.close()


class _Other(Meeting):
    """A node that has joined the first one."""

    def __init__(self, where: Place, connection: socket.socket):
        super().__init__(where)
        self._line = _Line(connection)
        self._first_is_gone: Message | None = None

    def start(self, processes: int, token: str) -> str:
        hello = {"kind": "hello", "version": _VERSION, "count": self.count, "processes": processes, "rank": self.rank}
        self._line.send(hello)
        self.address = self._line.address
        while not self.master:  # as long as the first one takes to prepare the run; its end is noticed
            messages = self._receive(_RETRY)
            for message in messages:
                if message["kind"] == "start":
                    self.rank, self.master, token = message["rank"], message["master"], message["token"]
            self._check(messages)
        return token

    def _named(self, message: Message) -> Message:
        return {"node": 0, **message}

    def tell(self, kind: str, **content: Any) -> None:
        self._line.send({"kind": kind, **content})

    def heard(self) -> list[Message]:
        return self._receive(0.0)

    def _receive(self, wait: float) -> list[Message]:
        messages = [self._named(message) for message in self._line.receive(wait)]
        for message in messages:
            if message["kind"] in ("gone", "left") and message["node"] == 0:
                self._first_is_gone = message
        return messages

    def conclude(self, outcome: Message) -> list[Message]:
        self.tell("outcome", outcome=outcome)
        while self._first_is_gone is None:
            for message in self._receive(_RETRY):
                if message["kind"] == "outcomes":
                    self.over = True
                    return message["outcomes"]
        self.over = True
        return [self._first_is_gone, outcome]

    def close(self) -> None:
        self._line.connection.close()


def _free_port(address: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]
