"""A mail server that answers each step of the conversation as a test says."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

HANG_UP = "hang up"
DRIPS = "drips"
"""A byte of the answer now and then, and never all of it."""
PIPELINES = "250-hello\r\n250 PIPELINING"
"""The answer to EHLO of a server that takes several commands at once."""
SILENCE = "silence"


@dataclass
class Scripted:
    """What it answers, and what it got. The empty step is the greeting, `.` the mail's final dot."""

    answers: dict[str, str] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    mails: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    once: dict[str, str] = field(default_factory=dict)
    """What it answers the first time."""
    over: threading.Event = field(default_factory=threading.Event)

    def answer(self, step: str) -> str:
        usual = {"": "220 hello", "EHLO": "250 hello", "DATA": "354 go on", "QUIT": "221 bye", ".": "250 taken as 17"}
        if step in self.once:
            return self.once.pop(step)
        return self.answers.get(step, usual.get(step, "250 ok"))


@contextmanager
def serving(script: Scripted) -> Iterator[Scripted]:
    """Runs it on a free port, each connection on a thread of its own."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            script.connections += 1
            if not self.say(script.answer("")):
                return
            while line := self.rfile.readline():
                step = line.decode("ascii", "replace").split()[0].upper()
                script.steps.append(step)
                answer = script.answer(step)  # once: it may be another the next time
                if not self.say(answer) or step == "QUIT":
                    return
                if step == "DATA" and answer.startswith("354") and not self.take_mail():
                    return

        def take_mail(self) -> bool:
            mail = b""
            if script.answers.get("body") == HANG_UP:
                self.rfile.readline()
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                self.connection.close()
                return False
            while (line := self.rfile.readline()) != b".\r\n":
                if not line:
                    return False
                mail += line.removeprefix(b".") if line.startswith(b"..") else line
            script.mails.append(mail)
            return self.say(script.answer("."))

        def say(self, answer: str) -> bool:
            if answer == SILENCE:
                self.rfile.read()
                return False
            if answer == HANG_UP:
                return False
            if answer == DRIPS:
                self.wfile.write(b"250-")
                while not script.over.wait(0.2):
                    self.wfile.write(b"x")
                return False
            self.wfile.write(answer.encode() + b"\r\n")
            return not answer.startswith("421")

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """The other end hung up."""

    with Server(("127.0.0.1", 0), Handler) as server:
        script.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield script
        script.over.set()
        server.shutdown()
