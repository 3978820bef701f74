"""The sender: a process that sends what is due, in as many conversations side by side as it is told to.

Any number of these processes may run. Start: `python -m services.notifications.worker`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from prometheus_client import Counter, Gauge

from services.notifications import delivering, reports
from services.notifications.channels.mail import MailChannel
from services.notifications.channels.sms import SmsChannel
from services.notifications.codes import CodeSender
from services.notifications.providers import Provider
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
        "Attempts to send a notification, by channel, provider and outcome",
        ["channel", "provider", "outcome"],
        registry=process.core.metrics.registry,
    )
    late = Gauge(
        "vardarende_delivery_late_seconds",
        "How long the delivery that has waited longest for a sender has been due",
        registry=process.core.metrics.registry,
    )
    providers = providers_of(settings)
    senders = [_sender(process, settings, providers, attempts) for _ in range(settings.senders)]
    threads = [
        threading.Thread(target=_send, args=(process, sender, settings.idle_seconds), name=f"sender {number}")
        for number, sender in enumerate(senders)
    ]
    # Of each channel by itself: mail that hangs keeps no code from a telephone.
    for channel, some in providers.items():
        given = (process, CodeSender(process.transaction, channel, some), settings.idle_seconds)
        threads.append(threading.Thread(target=_send, args=given, name=f"codes {channel}"))
    finished = threading.Event()
    pulse = threading.Thread(target=_live, args=(process, senders, settings.lease, late, finished), name="pulse")
    for thread in (pulse, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    finished.set()
    pulse.join()


def providers_of(settings: SenderSettings) -> dict[Channel, list[Provider]]:
    """The providers of each channel, the first choice first."""
    mail_names = _told_apart([one.name for one in settings.mail_servers])
    sms_names = _told_apart([one.name for one in settings.sms_providers])
    return {
        Channel.EMAIL: [
            Provider(name, partial(MailChannel, one), per_second=one.per_second)
            for name, one in zip(mail_names, settings.mail_servers, strict=True)
        ],
        Channel.SMS: [
            Provider(
                name,
                partial(SmsChannel, one),
                per_second=one.per_second,
                report_to=partial(_report_to, settings, number),
            )
            for number, (name, one) in enumerate(zip(sms_names, settings.sms_providers, strict=True), start=1)
        ],
    }


def _told_apart(names: Sequence[str]) -> list[str]:
    """Two on one host, by port or by account, are two: each has its own conversation and pace."""
    return [name if name not in names[:number] else f"{name} ({number + 1})" for number, name in enumerate(names)]


def _report_to(settings: SenderSettings, number: int, reference: str) -> str | None:
    """Where the webhook takes the report of this sending, and of no other."""
    if settings.reports_url is None:
        return None
    slot = f"sms-{number}"
    signed = reports.signature(settings.report_key, slot, reference)
    return f"{settings.reports_url.rstrip('/')}/reports/{slot}/{reference}/{signed}"


def _sender(
    process: Process, settings: SenderSettings, providers: dict[Channel, list[Provider]], attempts: Counter
) -> Sender:
    return Sender(
        process.transaction,
        process.ask,
        providers,
        batch=settings.send_batch,
        lease=settings.lease,
        stopping=process.stopping.is_set,
        sent=lambda channel, provider, outcome: attempts.labels(channel, provider, outcome).inc(),
    )


def _live(
    process: Process, senders: Sequence[Sender], lease: timedelta, late: Gauge, finished: threading.Event
) -> None:
    """Renews what the senders hold for as long as they live, and finds what those of a killed process have left."""
    while not finished.wait(lease.total_seconds() / _RENEWALS_IN_A_LEASE):
        try:
            with process.transaction() as tx:
                delivering.renew(tx, [sender.holds for sender in senders if sender.holds], lease)
                swept = delivering.sweep(tx)
                late.set(delivering.late(tx).total_seconds())
        except Exception as error:  # the database away, most likely; so it is for those who would take them over
            log.warning("leases_not_renewed", exc_info=error)
            continue
        swept.tell()


def _send(process: Process, sender: Sender | CodeSender, idle_seconds: float) -> None:
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
