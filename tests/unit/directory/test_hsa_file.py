"""HSA's unit file: streamed, nothing in it trusted; and the official samples where they are on this machine.

Proves R-DIR-12.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from services.directory import records
from services.directory.records import Raw, Unit
from services.directory.sources import SourceError, hsa_file

SAMPLES = Path(__file__).parents[4] / "shared" / "testdata" / "hsa" / "unit-file"
NAMESPACE = "urn:riv:hsa:HsaWsResponder:3"
BEGIN = f'<FileGetHsaUnitsResponse xmlns="{NAMESPACE}"><startDate>2026-11-24T01:00:00</startDate><hsaUnits>'
END = "</hsaUnits></FileGetHsaUnitsResponse>"
WHOLE = """<hsaUnit><hsaIdentity>SE2321000131-E000000000001</hsaIdentity>
<DN>ou=Kattegatts läkarhus,o=Kattegatt,c=SE</DN><orgNo>232100-0131</orgNo><name>Kattegatts läkarhus</name>
<publicName>Kattegatts läkarhus &amp; BVC &lt;Halmstad&gt;</publicName>
<hsaResponsibleHealthCareProvider>SE2321000131-E000000000007</hsaResponsibleHealthCareProvider>
<startDate>2020-01-01T00:00:00+01:00</startDate><endDate>2027-01-01T00:00:00</endDate></hsaUnit>"""


def unit(number: int, **changes: str) -> str:
    told = {"hsaIdentity": f"SE2321000131-E{number:012}", "DN": f"ou=Enhet {number},c=SE", "name": f"Enhet {number}"}
    return "<hsaUnit>" + "".join(f"<{key}>{one}</{key}>" for key, one in (told | changes).items() if one) + "</hsaUnit>"


def read(tmp_path: Path, text: str, encoding: str = "utf-8") -> list[Raw]:
    file = tmp_path / "units.xml"
    file.write_bytes(text.encode(encoding))
    return [one for one in hsa_file.records(file) if one is not None]


def test_a_unit_in_types(tmp_path):
    [raw] = read(tmp_path, BEGIN + WHOLE + END)
    made = records.unit(raw)
    assert isinstance(made, Unit)
    assert made.name == "Kattegatts läkarhus & BVC <Halmstad>"
    assert made.care_provider == "SE2321000131-E000000000007"
    assert made.start_date.isoformat() == "2019-12-31T23:00:00+00:00"
    assert made.end_date.isoformat() == "2026-12-31T23:00:00+00:00"


def test_another_encoding_that_is_declared(tmp_path):
    head = '<?xml version="1.0" encoding="ISO-8859-1"?>'
    [raw] = read(tmp_path, head + BEGIN + WHOLE + END, "iso-8859-1")
    assert raw.dn.startswith("ou=Kattegatts läkarhus")


def test_archived_units_are_no_longer_in_the_directory(tmp_path):
    found = read(tmp_path, BEGIN + unit(1) + unit(2, unitIsArchived="true") + unit(3, unitIsArchived="false") + END)
    assert [one.dn for one in found] == ["ou=Enhet 1,c=SE", "ou=Enhet 3,c=SE"]


def test_a_unit_without_a_dn_can_not_be_taken_and_is_there_all_the_same(tmp_path):
    [raw] = read(tmp_path, BEGIN + unit(1, DN="") + END)
    assert raw.fault == "no_dn"


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("inte xml", "not_xml"),
        (BEGIN + WHOLE, "not_xml"),  # cut in the middle
        (BEGIN + WHOLE + "<hsaUnit></hsaUnits>" + END, "not_xml"),
        (BEGIN + END, "no_records"),
        ("<FileGetHsaUnitsResponse/>", "not_a_unit_file"),  # of no namespace
        (f'<x xmlns="{NAMESPACE}">{WHOLE}</x>', "not_a_unit_file"),
        (BOMB + BEGIN + WHOLE.replace("läkarhus", "&b;") + END, "document_type"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd">' + BEGIN + WHOLE + END, "document_type"),
        (BEGIN + WHOLE.replace("läkarhus", "&nbsp;") + END, "not_xml"),  # an entity that nobody has defined
    ],
)
def test_what_is_no_unit_file_r_dir_12(tmp_path, text, reason):
    with pytest.raises(SourceError) as refused:
        read(tmp_path, text)
    assert refused.value.reason == reason


def test_a_wrong_encoding_r_dir_12(tmp_path):
    with pytest.raises(SourceError) as refused:
        read(tmp_path, BEGIN + WHOLE + END, "iso-8859-1")
    assert refused.value.reason == "not_xml"


COUNTING = """
import sys
from pathlib import Path
from services.directory.sources import hsa_file
count = sum(1 for _ in hsa_file.records(Path(sys.argv[1])))
print(count, Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


NOISE = "<annat><nytt>x</nytt><!-- sagt i förbigående --><?nu då?></annat>"


@pytest.mark.parametrize(
    ("before", "between", "after"),
    [("", "", ""), ("", NOISE, ""), ("<hsaUnits>", "", "</hsaUnits>"), ("<annat>", NOISE, "</annat>")],
    ids=["units alone", "what is no unit between them", "one unit list in another", "units where none belong"],
)
def test_memory_does_not_grow_with_the_file(tmp_path, before, between, after):
    """Nor with what stands in it that is no unit."""
    peaks = []
    for count in (500, 30_000):
        file = tmp_path / f"{count}.xml"
        filling = "x" * 500
        with file.open("w") as text:
            text.write(BEGIN + unit(0) + before)
            text.writelines(unit(n, publicName=f"Enhet {n} {filling}") + between for n in range(1, count))
            text.write(after + END)
        done = subprocess.run(
            [sys.executable, "-c", COUNTING, str(file)], capture_output=True, text=True, check=True, cwd=Path.cwd()
        )
        read_, peak = map(int, done.stdout.split())
        assert read_ == (1 if before == "<annat>" else count)
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 20 * 1024  # kilobytes; the file has grown by 20 MB


@pytest.mark.skipif(not SAMPLES.exists(), reason="the official samples are not on this machine")
@pytest.mark.parametrize("name", ["simpleTest", "simpleTestPart1", "simpleTestPart2"])
def test_the_official_samples(name):
    found = [records.unit(one) for one in hsa_file.records(SAMPLES / f"{name}.xml")]
    assert len(found) >= 2
    assert all(isinstance(one, Unit) for one in found)
