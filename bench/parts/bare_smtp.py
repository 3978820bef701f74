"""Hands mails to a server as fast as smtplib alone can: `bare_smtp HOST PORT CA-FILE USER PASSWORD-FILE`."""

from __future__ import annotations

import smtplib
import ssl
import sys
import threading
import time
from pathlib import Path
from uuid import uuid4

from bench.parts.programs import serve
from services.notifications.channels.mail import compose
from services.notifications.channels.outcome import Letter
from services.notifications.providers import MailServer
from services.notifications.rendering import words
from shared.contracts.notifications import Channel, DeliveryKind

host, port, ca_file, user, password_file = sys.argv[1:]
SENDER = "no-reply@e-tjanster.example"


def hand_over(count: int, connections: int) -> float:
    """Mails a second: the same words as the service's, each with an id and a recipient of its own."""
    ready = threading.Barrier(connections + 1)
    share = [count // connections + (number < count % connections) for number in range(connections)]
    threads = [threading.Thread(target=_hand_over, args=(mails, ready)) for mails in share]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.monotonic()
    for thread in threads:
        thread.join()
    return count / (time.monotonic() - began)


def _hand_over(count: int, ready: threading.Barrier) -> None:
    text = words(DeliveryKind.CLINIC_NEW_CASE, Channel.EMAIL, "Björkskogens vårdcentral")
    letter = Letter("ID", "ID.0", "to@vgregion.example", text)
    mail = compose(MailServer(host, SENDER), letter)
    with smtplib.SMTP(host, int(port)) as smtp:
        smtp.starttls(context=ssl.create_default_context(cafile=ca_file))
        smtp.login(user, Path(password_file).read_text().strip())
        ready.wait()
        for _ in range(count):
            own = mail.replace(b"<ID@", b"<%s@" % uuid4().hex.encode())
            assert not smtp.sendmail(SENDER, ["to@vgregion.example"], own)


if __name__ == "__main__":
    serve({"hand_over": hand_over})
