"""The object store: what is signed for clients, and what the checker does there itself.

Two buckets. Clients upload to the first by a signed PUT, which the store takes once and only with the very length, type
and SHA-256 that were signed. Checked files lie in the second, with versions, so that an overwrite loses nothing: what
is given out is always the version that was checked. Everything is encrypted by the store (SSE-S3, R-ATT-9).
"""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO
from urllib.parse import quote
from uuid import UUID, uuid4

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from services.attachments.settings import AttachmentsSettings
from shared.contracts.attachments import UploadRequest

CHUNK_BYTES = 1024 * 1024
_CONNECT_SECONDS, _READ_SECONDS = 3, 20
_ENCRYPTION = "AES256"


class StoreDown(Exception):
    """The store does not answer, or refuses what it should not: try again later."""


def upload_key(attachment: UUID) -> str:
    """Where the client puts the file."""
    return str(attachment)


def new_clean_key(attachment: UUID) -> str:
    """Where a checker puts the checked file: a new place each time, so that two checkers never meet."""
    return f"{attachment}/{uuid4()}"


def preview_key_of(clean_key: str) -> str:
    """Where the checked file's preview lies."""
    return f"{clean_key}.preview"


@dataclass(frozen=True)
class Kept:
    """What a checker has put into the store: the checked bytes, which may be fewer than the upload's, and a preview."""

    key: str
    version: str
    size: int
    sha256: bytes
    cleaned: bool
    """Active content was removed from it."""
    preview_key: str | None = None
    preview_version: str | None = None


def _client(settings: AttachmentsSettings, endpoint: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key_file.read_text().strip(),
        aws_secret_access_key=settings.s3_secret_key_file.read_text().strip(),
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"max_attempts": 2, "mode": "standard"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


class Signer:
    """Signs requests for clients. Pure computing, no network: fit for the service's green threads."""

    def __init__(self, settings: AttachmentsSettings) -> None:
        self._client = _client(settings, settings.public_endpoint)
        self._upload_bucket, self._bucket = settings.s3_upload_bucket, settings.s3_bucket

    def upload(self, attachment: UUID, size: int, content_type: str, sha256: bytes, seconds: int) -> UploadRequest:
        """The one request by which the file can be uploaded, for so many seconds."""
        checksum = base64.b64encode(sha256).decode()
        wanted = {
            "ContentLength": size,
            "ContentType": content_type,
            "ChecksumSHA256": checksum,
            "IfNoneMatch": "*",
            "ServerSideEncryption": _ENCRYPTION,
        }
        where = {"Bucket": self._upload_bucket, "Key": upload_key(attachment)}
        url = self._client.generate_presigned_url("put_object", Params=where | wanted, ExpiresIn=seconds)
        headers = {
            "Content-Length": str(size),
            "Content-Type": content_type,
            "x-amz-checksum-sha256": checksum,
            "If-None-Match": "*",
            "x-amz-server-side-encryption": _ENCRYPTION,
        }
        return UploadRequest(method="PUT", url=url, headers=headers)

    def link(
        self, key: str, version: str, content_type: str, name: str, seconds: int, *, disposition: str = "attachment"
    ) -> str:
        """An address that gives this version of a checked file for so many seconds, to be saved, not shown."""
        wanted = {
            "Bucket": self._bucket,
            "Key": key,
            "VersionId": version,
            "ResponseContentType": content_type,
            "ResponseContentDisposition": content_disposition(name, disposition),
            "ResponseCacheControl": "private, no-store",
        }
        return str(self._client.generate_presigned_url("get_object", Params=wanted, ExpiresIn=seconds))


@lru_cache(maxsize=4)
def signer(settings: AttachmentsSettings) -> Signer:
    """The process's signer: making one takes a third of a second."""
    return Signer(settings)


def content_disposition(name: str, disposition: str = "attachment") -> str:
    """The header that makes a browser save the file under its name, åäö and all (RFC 6266, RFC 8187)."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = "".join("_" if character in '"\\%/;' or not character.isprintable() else character for character in plain)
    return f"{disposition}; filename=\"{plain.strip() or 'fil'}\"; filename*=UTF-8''{quote(name, safe='')}"


@dataclass(frozen=True)
class Stored:
    """One version of one object. `marker`: says that the object was removed."""

    key: str
    version: str
    marker: bool


class Store:
    """What the checker does in the store. Methods raise `StoreDown` when the store does not answer as it should."""

    def __init__(self, settings: AttachmentsSettings) -> None:
        self._client = _client(settings, settings.s3_endpoint)
        self._upload_bucket, self.bucket = settings.s3_upload_bucket, settings.s3_bucket
        self.buckets = (self._upload_bucket, self.bucket)

    def prepare(self) -> None:
        """Makes the buckets where they are missing: encrypting, the one for checked files with versions."""
        for bucket in self.buckets:
            if self._missing(bucket):
                try:
                    self._do("create_bucket", Bucket=bucket)
                except StoreDown:
                    if self._missing(bucket):  # else another checker was quicker
                        raise
            rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": _ENCRYPTION}}
            self._do("put_bucket_encryption", Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
        self._do("put_bucket_versioning", Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"})

    def answers(self) -> bool:
        """Whether both buckets are fit for use: encrypting, and the one for checked files with versions (R-ATT-9)."""
        try:
            versions = self._do("get_bucket_versioning", Bucket=self.bucket).get("Status")
            return versions == "Enabled" and all(self._encrypts(bucket) for bucket in self.buckets)
        except StoreDown:
            return False

    def _encrypts(self, bucket: str) -> bool:
        told = self._do("get_bucket_encryption", Bucket=bucket)["ServerSideEncryptionConfiguration"]
        return any(rule.get("ApplyServerSideEncryptionByDefault") for rule in told["Rules"])

    def uploaded_size(self, attachment: UUID) -> int | None:
        """How many bytes the client has uploaded; None if nothing is there."""
        try:
            head = self._client.head_object(Bucket=self._upload_bucket, Key=upload_key(attachment))
        except ClientError as error:
            if _is_absent(error):
                return None
            raise StoreDown from error
        except BotoCoreError as error:
            raise StoreDown from error
        return int(head["ContentLength"])

    def read_upload(self, attachment: UUID) -> Iterator[bytes]:
        """The uploaded bytes, piece by piece."""
        answer = self._do("get_object", Bucket=self._upload_bucket, Key=upload_key(attachment))
        try:
            with closing(answer["Body"]) as body:
                yield from body.iter_chunks(CHUNK_BYTES)
        except (BotoCoreError, OSError) as error:
            raise StoreDown from error

    def keep(self, key: str, file: BinaryIO, content_type: str, sha256: bytes) -> str:
        """Puts a checked file in its place; the store compares the checksum. Answers its version."""
        answer = self._do(
            "put_object",
            Bucket=self.bucket,
            Key=key,
            Body=file,
            ContentType=content_type,
            ChecksumSHA256=base64.b64encode(sha256).decode(),
            IfNoneMatch="*",
            ServerSideEncryption=_ENCRYPTION,
        )
        if not answer.get("VersionId") or answer.get("ServerSideEncryption") != _ENCRYPTION:
            raise StoreDown("the store keeps no versions, or does not encrypt")
        return str(answer["VersionId"])

    def remove_version(self, key: str, version: str) -> None:
        """Removes one version of one checked file."""
        self._do("delete_object", Bucket=self.bucket, Key=key, VersionId=version)

    def remove_upload(self, attachment: UUID) -> int:
        """Removes what the client uploaded, every version of it. Answers how many there were."""
        return self._remove(self._upload_bucket, upload_key(attachment), except_for=())

    def remove_clean(self, attachment: UUID, *, except_for: Collection[tuple[str, str]]) -> int:
        """Removes all that checkers have put there for the file, every version, but these keys and versions."""
        return self._remove(self.bucket, f"{attachment}/", except_for=except_for)

    def versions(self, bucket: str, prefix: str) -> list[tuple[str, str]]:
        """Key and version of everything under a prefix, markers of deletion too."""
        return [(one.key, one.version) for one in self.listing(bucket, prefix)]

    def listing(self, bucket: str, prefix: str = "", page_size: int = 1000) -> Iterator[Stored]:
        """Everything under a prefix, every version and marker, in the order of the keys."""
        more: dict[str, Any] = {}
        last = ""
        while True:
            page = self._do("list_object_versions", Bucket=bucket, Prefix=prefix, MaxKeys=page_size, **more)
            found = [Stored(one["Key"], one["VersionId"], False) for one in page.get("Versions", [])]
            found += [Stored(one["Key"], one["VersionId"], True) for one in page.get("DeleteMarkers", [])]
            found.sort(key=lambda one: one.key)
            if found and found[0].key < last:
                raise StoreDown("the store lists in no order")
            yield from found
            if not page.get("IsTruncated"):
                return
            last = found[-1].key if found else last
            more = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page.get("NextVersionIdMarker", "")}

    def has(self, key: str, version: str) -> bool:
        """Whether this version of a checked file is there."""
        try:
            self._client.head_object(Bucket=self.bucket, Key=key, VersionId=version)
        except ClientError as error:
            if _is_absent(error):
                return False
            raise StoreDown from error
        except BotoCoreError as error:
            raise StoreDown from error
        return True

    def _remove(self, bucket: str, prefix: str, except_for: Collection[tuple[str, str]]) -> int:
        surplus = [one for one in self.versions(bucket, prefix) if one not in except_for]
        for key, version in surplus:
            self._do("delete_object", Bucket=bucket, Key=key, VersionId=version)
        return len(surplus)

    def _missing(self, bucket: str) -> bool:
        try:
            self._client.head_bucket(Bucket=bucket)
        except ClientError as error:
            if _is_absent(error):
                return True
            raise StoreDown from error
        except BotoCoreError as error:
            raise StoreDown from error
        return False

    def _do(self, operation: str, **arguments: Any) -> Any:
        try:
            return getattr(self._client, operation)(**arguments)
        except (BotoCoreError, ClientError) as error:
            raise StoreDown from error


def _is_absent(error: ClientError) -> bool:
    return str(error.response.get("Error", {}).get("Code")) in (
        "404",
        "NoSuchKey",
        "NoSuchBucket",
        "NoSuchVersion",
        "NotFound",
    )


def measure(file: BinaryIO) -> tuple[int, bytes]:
    """Size and SHA-256 of a file."""
    digest, size = hashlib.sha256(), 0
    file.seek(0)
    while piece := file.read(CHUNK_BYTES):
        digest.update(piece)
        size += len(piece)
    file.seek(0)
    return size, digest.digest()


def save(pieces: Iterator[bytes], file: BinaryIO, most: int) -> tuple[int, bytes]:
    """Writes the pieces to a file, stopping once there are more bytes than `most`. Answers size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        file.write(piece)
        digest.update(piece)
        size += len(piece)
        if size > most:
            break
    file.flush()
    return size, digest.digest()
