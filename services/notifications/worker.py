"""The sender: a process that sends what is due, in as many conversations side by side as it is told to.

Any number of these processes may run. Start: `python -m services.notifications.worker`.
"""

from __future__ import annotations

import threading
from datetime import timedelta

from prometheus_client import Counter

from services.notifications.channels.mail import MailChannel, MailServer
from services.notifications.channels.sms import SmsChannel, SmsProvider
from services.notifications.sending import Sender
from services.notifications.settings import SenderSettings
from shared.contracts.notifications import Channel, notifications
from shared.operations.logs import log
from shared.operations.process import Process

_PAUSE_AFTER_FAULT_SECONDS = 1.0


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
    threads = [
        threading.Thread(target=_send, args=(process, settings, attempts), name=f"sender {number}")
        for number in range(settings.senders)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _send(process: Process, settings: SenderSettings, attempts: Counter) -> None:
    sender = Sender(
        process.transaction,
        process.ask,
        {
            Channel.EMAIL: MailChannel(MailServer.from_settings(settings)),
            Channel.SMS: SmsChannel(SmsProvider.from_settings(settings)),
        },
        batch=settings.send_batch,
        lease=timedelta(seconds=settings.lease_seconds),
        stopping=process.stopping.is_set,
        sent=lambda channel, outcome: attempts.labels(channel, outcome).inc(),
    )
    try:
        while not process.stopping.is_set():
            try:
                pause = 0.0 if sender.round() else settings.idle_seconds
            except Exception as error:  # the database away, most likely: nothing is lost, what was claimed comes back
                log.warning("sender_disturbed", exc_info=error)
                pause = _PAUSE_AFTER_FAULT_SECONDS
            if pause:
                process.stopping.wait(pause)
    finally:
        sender.close()


if __name__ == "__main__":
    main()
