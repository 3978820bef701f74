"""The sender: a process that sends what is due, in as many conversations side by side as it is told to.

Any number of these processes may run. Start: `python -m services.notifications.worker`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta

from prometheus_client import Counter

from services.notifications import delivering
from services.notifications.channels.mail import MailChannel, MailServer
from services.notifications.channels.sms import SmsChannel, SmsProvider
from services.notifications.sending import Sender
from services.notifications.settings import SenderSettings
from shared.contracts.notifications import Channel, notifications
from shared.operations.logs import log
from shared.operations.process import Process

_PAUSE_AFTER_FAULT_SECONDS = 1.0
_RENEWALS_IN_A_LEASE = 4


def main() -> None:
    """Runs until told to stop; then each conversation finishes the message it has begun, and gives back the rest."""
    process = Process("notifications", "sender", SenderSettings, contract=notifications)
    process.run(send_all)


def send_all(process: Process) -> None:
    """Sends until the process is told to stop."""
    settings: SenderSettings = process.settings
    attempts = Counter(
        "vardarende_delivery_attempts_total",
        "Attempts to send a notification, by channel and outcome",
        ["channel", "outcome"],
        registry=process.core.metrics.registry,
    )
    senders = [_sender(process, settings, attempts) for _ in range(settings.senders)]
    threads = [
        threading.Thread(target=_send, args=(process, sender, settings.idle_seconds), name=f"sender {number}")
        for number, sender in enumerate(senders)
    ]
    finished = threading.Event()
    pulse = threading.Thread(target=_live, args=(process, senders, settings.lease, finished), name="pulse")
    for thread in (pulse, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    finished.set()
    pulse.join()


def _sender(process: Process, settings: SenderSettings, attempts: Counter) -> Sender:
    return Sender(
        process.transaction,
        process.ask,
        {
            Channel.EMAIL: MailChannel(MailServer.from_settings(settings)),
            Channel.SMS: SmsChannel(SmsProvider.from_settings(settings)),
        },
        batch=settings.send_batch,
        lease=settings.lease,
        stopping=process.stopping.is_set,
        sent=lambda channel, outcome: attempts.labels(channel, outcome).inc(),
    )


def _live(process: Process, senders: Sequence[Sender], lease: timedelta, finished: threading.Event) -> None:
    """Renews what the senders hold for as long as they live, and finds what those of a killed process have left."""
    while not finished.wait(lease.total_seconds() / _RENEWALS_IN_A_LEASE):
        try:
            with process.transaction() as tx:
                delivering.renew(tx, [sender.holds for sender in senders if sender.holds], lease)
                swept = delivering.sweep(tx)
        except Exception as error:  # the database away, most likely; so it is for those who would take them over
            log.warning("leases_not_renewed", exc_info=error)
            continue
        swept.tell()


def _send(process: Process, sender: Sender, idle_seconds: float) -> None:
    try:
        while not process.stopping.is_set():
            try:
                pause = 0.0 if sender.round() else idle_seconds
            except Exception as error:  # the database away, most likely: nothing is lost, what was claimed comes back
                log.warning("sender_disturbed", exc_info=error)
                pause = _PAUSE_AFTER_FAULT_SECONDS
            if pause:
                process.stopping.wait(pause)
    finally:
        sender.close()


if __name__ == "__main__":
    main()
