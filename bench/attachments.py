"""Files: uploading by a signed request, against a bare put; checking, against the bare libraries; eight at once.

Everything runs on the real store. A check is all that a checker does for a file, from taking it to writing that it is
usable: fetching, comparing, taking apart, decoding, drawing a preview, keeping both in the store.
"""

from __future__ import annotations

import contextlib
import io
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import boto3
import pikepdf
from PIL import Image

from bench.parts.attachments_place import Place, Worked
from bench.parts.report import Figure, median, ratio
from bench.parts.servers import Servers
from deploy.local import upload as helper
from shared.messaging.link import HEARTBEAT_SECONDS

MEGABYTE = 1 << 20
SIZE = 50 * MEGABYTE
PDF, GIF, JPEG, PNG = "application/pdf", "image/gif", "image/jpeg", "image/png"
UPLOAD_BAR = 0.9
MEMORY_BAR_MB = 150.0
_ROUNDS = 6
_CHECKS = 3
_AT_ONCE = 8


def measure(servers: Servers, rounds: int = _ROUNDS) -> list[Figure]:
    """The figures of this benchmark."""
    with Place.on(servers.stack) as place:
        files = {content_type: _file(place, content_type) for content_type in (PDF, GIF, JPEG, PNG)}
        figures = _uploads(place, files[PDF], rounds)
        for content_type, path in files.items():
            figures += _checks(place, content_type, path)
        return figures + _at_once(place, files)


# --- the files ------------------------------------------------------------------------------------------------------


def _noise(side: int) -> Image.Image:
    return Image.frombytes("RGB", (side, side), random.Random(side).randbytes(side * side * 3))


def _file(place: Place, content_type: str) -> Path:
    """A file of the type, a little smaller than the largest."""
    path = place.folder / ("fil." + content_type.partition("/")[2])
    if content_type == PDF:
        picture = io.BytesIO()
        _noise(1_150).save(picture, "JPEG", quality=95)
        _pages(path, picture.getvalue(), 1_150, SIZE // (len(picture.getvalue()) + 1_000))
    elif content_type == GIF:
        frame = _noise(1_400).quantize(256)
        frames = [frame.rotate(90 * turn) for turn in range(1, 18)]
        frame.save(path, "GIF", save_all=True, append_images=frames)
    elif content_type == JPEG:
        _noise(3_700).save(path, "JPEG", quality=99, subsampling=0)
    else:
        _noise(4_150).save(path, "PNG", compress_level=1)
    assert 0.9 * SIZE < path.stat().st_size <= SIZE, path.stat().st_size
    return path


def _pages(path: Path, picture: bytes, side: int, count: int) -> None:
    """A document of scanned pages."""
    with pikepdf.new() as document:
        for _ in range(count):
            page = document.add_blank_page(page_size=(595, 842))
            scan = pikepdf.Stream(document, picture)
            scan.Type, scan.Subtype = pikepdf.Name.XObject, pikepdf.Name.Image
            scan.Width = scan.Height = side
            scan.ColorSpace, scan.BitsPerComponent = pikepdf.Name.DeviceRGB, 8
            scan.Filter = pikepdf.Name.DCTDecode
            page.Resources = pikepdf.Dictionary({"/XObject": pikepdf.Dictionary({"/Im": scan})})
            page.Contents = pikepdf.Stream(document, b"595 0 0 842 0 0 cm /Im Do")
        document.save(path)


# --- uploading ------------------------------------------------------------------------------------------------------


def _uploads(place: Place, path: Path, rounds: int) -> list[Figure]:
    client = boto3.client("s3", **place.store_access())
    megabytes = path.stat().st_size / MEGABYTE
    signed, bare = [], []
    for number in range(rounds + 1):  # the first warms both
        asked = place.ask(path, PDF)
        ours = megabytes / _seconds(helper.upload, path, asked)
        with path.open("rb") as file:
            wanted = {"Bucket": place.settings.s3_upload_bucket, "Key": f"bare-{number}", "Body": file}
            wanted |= {"ServerSideEncryption": "AES256"}
            theirs = megabytes / _seconds(client.put_object, **wanted)
        if number:
            signed.append(ours)
            bare.append(theirs)
    place.forget()
    return [
        ratio("50 MB by a signed request, against boto3's put", signed, bare, UPLOAD_BAR),
        median("upload by a signed request", "MB/s", signed),
        median("boto3's put", "MB/s", bare),
    ]


def _seconds(work: Callable[..., object], *arguments: object, **named: object) -> float:
    began = time.monotonic()
    work(*arguments, **named)
    return time.monotonic() - began


# --- checking -------------------------------------------------------------------------------------------------------


def _checks(place: Place, content_type: str, path: Path) -> list[Figure]:
    megabytes, word = path.stat().st_size / MEGABYTE, content_type.partition("/")[2]
    checked, bare = [], []
    for _ in range(_CHECKS):
        attachment = place.upload(path, content_type)
        checked.append(megabytes / _seconds(place.check, attachment))
        bare.append(megabytes / _seconds(_decoded, path, content_type))
    place.forget()
    return [
        Figure(
            f"{word} checked, against the bare library",
            sorted(one / other for one, other in zip(checked, bare, strict=True))[len(bare) // 2],
            "times",
            min(one / other for one, other in zip(checked, bare, strict=True)),
            max(one / other for one, other in zip(checked, bare, strict=True)),
            len(bare),
        ),
        median(f"{word} checked", "MB/s", checked),
    ]


def _decoded(path: Path, content_type: str) -> None:
    """The library alone, in this process, on a file on the disk."""
    if content_type == PDF:
        with pikepdf.open(path) as document:
            for thing in document.objects:
                if isinstance(thing, pikepdf.Stream):
                    thing.read_bytes(decode_level=pikepdf.StreamDecodeLevel.all)
        return
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(path) as picture:
        for frame in range(getattr(picture, "n_frames", 1)):
            picture.seek(frame)
            picture.load()


# --- many at once ---------------------------------------------------------------------------------------------------


def _at_once(place: Place, files: dict[str, Path]) -> list[Figure]:
    with place.running(CHECKS_AT_ONCE=str(_AT_ONCE)) as worked, _asked_all_the_time(worked) as answers:
        uploads = list(files.items()) * (_AT_ONCE // len(files))
        began = time.monotonic()
        attachments = _all_at_once(uploads, lambda one: place.upload(one[1], one[0]))
        place.wait_until_usable(attachments, seconds=150)
        took = time.monotonic() - began
        lost = worked.connections_lost()
        service, worker = worked.peak_megabytes("attachments"), worked.peak_megabytes("attachments_worker")
    megabytes = sum(path.stat().st_size for _, path in uploads) / MEGABYTE
    return [
        _told("eight 50 MB files at once: the service's memory", service, "MB", MEMORY_BAR_MB),
        _told("eight 50 MB files at once: the checker's memory, children aside", worker, "MB", MEMORY_BAR_MB),
        _told("connections to the broker lost meanwhile (missed heartbeats)", lost, "", 0.0),
        _told("longest wait for a call's answer meanwhile", max(answers), "s", HEARTBEAT_SECONDS),
        Figure("uploaded and checked, eight at once", megabytes / took, "MB/s", megabytes / took, megabytes / took, 1),
    ]


def _told(name: str, value: float, unit: str, bar: float) -> Figure:
    return Figure(name, value, unit, value, value, 1, bar, at_most=True)


def _all_at_once(uploads: list[tuple[str, Path]], upload: Callable[[tuple[str, Path]], UUID]) -> list[UUID]:
    done: list[UUID] = []
    threads = [threading.Thread(target=lambda one=one: done.append(upload(one))) for one in uploads]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == len(uploads)
    return done


@contextlib.contextmanager
def _asked_all_the_time(worked: Worked) -> Iterator[list[float]]:
    """The seconds that each answer of the service took, asked ten times a second."""
    answers: list[float] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.1):
            answers.append(_seconds(worked.ask_limits))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join()
