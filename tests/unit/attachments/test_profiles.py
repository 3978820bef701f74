"""Colour profiles are put together anew: the colours stay the same, and nothing is told (R-ATT-7)."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image, ImageCms

from services.attachments.examination.profiles import bare
from tests.unit.attachments.corpus import SECRETS, SRGB, telling_profile


def in_lab(profile: bytes) -> bytes:
    """Many colours, as the profile means them."""
    picture = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    picture.paste(Image.radial_gradient("L").resize((64, 32)).convert("RGB"), (0, 16))
    read = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.applyTransform(
        picture, ImageCms.buildTransform(read, ImageCms.createProfile("LAB"), "RGB", "LAB")
    ).tobytes()


@pytest.mark.parametrize("profile", [SRGB, telling_profile()], ids=["as made", "telling"])
def test_the_colours_stay_the_same_r_att_7(profile: bytes) -> None:
    made = bare(profile)
    assert made is not None
    assert in_lab(made) == in_lab(SRGB)
    assert not any(secret in made for secret in SECRETS)
    assert bare(made) == made, "there is nothing more to leave out"


@pytest.mark.parametrize(
    "profile",
    [
        b"",
        SRGB[:100],
        SRGB[:-1],
        SRGB[:36] + b"none" + SRGB[40:],
        SRGB[:128] + struct.pack(">I", 2**32 - 1) + SRGB[132:],
        SRGB[:128] + bytes(len(SRGB) - 128),
    ],
    ids=["empty", "its head", "cut", "unsigned", "too many parts", "no parts"],
)
def test_what_is_no_profile_is_none_r_att_7(profile: bytes) -> None:
    assert bare(profile) is None
