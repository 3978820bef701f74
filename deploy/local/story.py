"""The main job as a story: a case on its way from a resident to a clinic and back.

Every step is made through RPC on running services, and checks what it says. The demo tells it, a test runs it.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import jwt
import pikepdf
import requests
from PIL import Image

from deploy.local.contact import choose_contact
from deploy.local.people import cast
from deploy.local.teller import WAIT_SECONDS, Step, Tell, Teller, World, expect
from shared.contracts import cases, directory, identity, notifications
from shared.contracts.base import Role
from shared.messaging.errors import Refused

RESIDENT_TEXT = "Du har ett meddelande i e-tjänsterna på 1177. Meddelandet finns i inkorgen när du loggat in på 1177."
CLINIC_ADDRESS = "mottagningens.brevlada@vgregion.example"
MOBILE = cast.RESIDENT_MOBILE or ""
_NBSP, _ZERO_WIDTH = "\u00a0", "\u200b"


def picture() -> bytes:
    """A PNG, as a resident might attach it."""
    image = Image.effect_noise((480, 320), 60).convert("RGB")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def document() -> bytes:
    """A PDF, as a clinic might attach it."""
    pdf = pikepdf.new()
    pdf.add_blank_page(page_size=(595, 842))
    file = io.BytesIO()
    pdf.save(file)
    return file.getvalue()


class Story(Teller):
    """See the module; `STEPS` are its steps."""

    def __init__(self, world: World, tell: Tell, *, own_feed: bool = True) -> None:
        super().__init__(world, tell)
        self._own_feed = own_feed

    def tell(self) -> list[Step]:
        """Runs the story."""
        return self.run(STEPS)

    # --- 1. the directory -------------------------------------------------------------------------------------------

    def load_directory(self) -> None:
        """The directory loads clinics and staff from KiV's feed."""
        begin = directory.StartSync(request_id=uuid4(), accept_removals=True)  # the feed may be another than before
        run = self.world.call(directory.START_SYNC, begin, self.world.operator_token).run
        ends = time.monotonic() + 120
        while True:
            shown: directory.SyncRun = self.world.call(
                directory.GET_SYNC_RUN, directory.GetSyncRun(run=run, refused_limit=3), self.world.operator_token
            )
            if shown.state in ("done", "stopped", "failed"):
                break
            expect(time.monotonic() < ends, "the sync ends within two minutes")
            time.sleep(0.2)
        expect(shown.state == "done", f"the sync is done, not {shown.state}: {shown.reason}")
        expect(shown.units_read and shown.staff_read, "the feed has units and staff")
        self._note(run=run)
        self._say(
            f"{shown.units_read} units and {shown.staff_read} staff read, {shown.units_added} units new, "
            f"{shown.refused_count} values refused and listed"
        )

    # --- 2. the clinic is made ready --------------------------------------------------------------------------------

    def first_administrator(self) -> None:
        """The operator makes the first regional administrator, who logs in with SITHS and accepts the terms."""
        make = identity.MakeFirstAdministrator(request_id=uuid4(), person=cast.REGIONAL_ADMIN)
        try:
            self.world.call(identity.MAKE_FIRST_ADMINISTRATOR, make, self.world.operator_token)
        except Refused as error:
            expect(error.code == "conflict", f"made once and only once, not {error.code}")
            self._say("there is one already, from an earlier run")
        self._staff("regional", cast.REGIONAL_ADMIN)
        self._note(person=cast.REGIONAL_ADMIN)

    def activate_clinic(self) -> None:
        """The regional administrator finds the clinic in the directory and activates it."""
        wanted = cast.SJOPORTEN if self._own_feed else ""
        found = self._call(
            "regional", directory.SEARCH_CLINICS, directory.SearchClinics(text=wanted or "vardcentralen", limit=100)
        )
        chosen = [one for one in found.clinics if one.warning is None]
        expect(chosen, "the search finds a clinic without a warning")
        self.clinic, self.clinic_name = chosen[0].clinic, chosen[0].name
        if not chosen[0].active:
            activate = directory.ActivateClinic(request_id=uuid4(), clinic=self.clinic)
            self._call("regional", directory.ACTIVATE_CLINIC, activate)
        self._note(clinic=self.clinic)
        self._say(f"{self.clinic_name}, {self.clinic}")

    def _give(self, giver: str, person: str, role: identity.ClinicRole) -> identity.RoleGiven:
        give = identity.GiveRole(request_id=uuid4(), clinic=self.clinic, person=person, role=role)
        given: identity.RoleGiven = self._call(giver, identity.GIVE_ROLE, give)
        return given

    def give_roles(self) -> None:
        """Roles are given by HSA-id down the line; one is pasted with stray blanks."""
        self._give("regional", cast.OPERATIONS_MANAGER, Role.OPERATIONS_MANAGER)
        self._give("regional", cast.LOG_REVIEWER, Role.LOG_REVIEWER)
        self._staff("manager", cast.OPERATIONS_MANAGER)
        self._give("manager", cast.LOCAL_ADMIN, Role.LOCAL_ADMIN)
        self._staff("admin", cast.LOCAL_ADMIN)
        stray = f" {_NBSP}{cast.RECEIVER[:14].lower()}{_ZERO_WIDTH}{cast.RECEIVER[14:]}\t"
        given = self._give("admin", stray, Role.CASE_RECEIVER)
        expect(given.person == cast.RECEIVER, "the HSA-id with stray blanks is understood")
        for person in (cast.HANDLER, cast.SECOND_HANDLER):
            self._give("admin", person, Role.CASE_HANDLER)
        listed = self._call("admin", identity.LIST_RIGHTS, identity.ListRights(clinic=self.clinic))
        expect(len(listed.people) >= 6, "the rights list shows them all")
        self._note(clinic=self.clinic, receiver=cast.RECEIVER, handler=cast.HANDLER)

    def activate_case_type(self) -> None:
        """The local administrator offers "Kontakta mig" with "Bifoga filer"."""
        activate = cases.ActivateCaseType(
            request_id=uuid4(),
            clinic=self.clinic,
            name="Kontakta mig",
            components=[
                cases.Component(id="arende", kind="text", label="Vad gäller ditt ärende?", required=True),
                cases.Component(id="filer", kind="attachments", label="Bifoga filer"),
            ],
        )
        self.case_type = self._call("admin", cases.ACTIVATE_CASE_TYPE, activate).case_type
        self._note(case_type=self.case_type)

    def clinic_address(self) -> None:
        """The local administrator enters the address that is told of new cases; staff choose to be told by mail."""
        settings = notifications.SetClinicSettings(
            request_id=uuid4(), clinic=self.clinic, new_case_addresses=[CLINIC_ADDRESS]
        )
        self._call("admin", notifications.SET_CLINIC_SETTINGS, settings)
        for who, hsa_id in (("receiver", cast.RECEIVER), ("handler", cast.HANDLER)):
            self._staff(who, hsa_id)
            everything = ["case_assigned", "resident_wrote", "new_case"]
            choose_contact(self.world, self.tokens[who], notify_by=["email"], tell_me_about=everything)
        self._note(clinic=self.clinic)
        for address in (CLINIC_ADDRESS, self._mail_of("receiver"), self._mail_of("handler")):
            self._seen[address] = max([0, *(one["number"] for one in self.world.mail(address))])

    def _mail_of(self, who: str) -> str:
        hsa_id = {"receiver": cast.RECEIVER, "handler": cast.HANDLER}[who]
        return cast.mail_of(hsa_id)

    # --- 3. the resident --------------------------------------------------------------------------------------------

    def resident_logs_in(self) -> None:
        """A resident logs in with an e-ID, accepts the terms, chooses SMS, and verifies the number by a code."""
        self._resident("resident", cast.RESIDENT)
        choose_contact(self.world, self.tokens["resident"], mobile=MOBILE, notify_by=["sms"])
        said = jwt.decode(self.tokens["resident"], options={"verify_signature": False})
        self._note(resident=said["sub"], session=said["sid"])
        self._seen[MOBILE] = max([0, *(one["number"] for one in self.world.sms(MOBILE))])

    def start_case(self) -> None:
        """The resident starts a case with a picture."""
        self.picture = picture()
        image = self._usable("resident", "utslag på armen.png", "image/png", self.picture)
        start = cases.StartCase(
            request_id=uuid4(),
            clinic=self.clinic,
            case_type=self.case_type,
            answers=[cases.Answer(component="arende", values=["Jag har fått ett utslag på armen."])],
            attachments=[image],
        )
        started = self._call("resident", cases.START_CASE, start)
        again = self._call("resident", cases.START_CASE, start)
        expect(again == started, "the same request id, sent twice, starts one case")
        self.case, self.image = started.case, image
        self._note(case=started.case, message=started.message, attachment=image)
        self._say(f"case {started.number}; the same call sent again got the same answer")

    def told_of_new_case(self) -> None:
        """The clinic's address and the receiver get their mail."""
        for address in (CLINIC_ADDRESS, self._mail_of("receiver")):
            [mail] = self._arrived("mail", address)
            whole = f"{mail['subject']} {mail['text']}"
            expect("utslag" not in whole and "Berg" not in whole, "no mail tells who or what")
        self._note(case=self.case)

    # --- 4. the clinic answers --------------------------------------------------------------------------------------

    def assign(self) -> None:
        """The receiver sees the case among the clinic's, and gives it to the handler with a partial reply."""
        listing = cases.ListClinicCases(clinic=self.clinic, state="new")
        listed = self._call("receiver", cases.LIST_CLINIC_CASES, listing)
        [mine] = [one for one in listed.cases if one.case == self.case]
        shown = self._case("receiver", self.case)
        expect(shown.resident and shown.resident.name, "staff see who the resident is")
        expect(shown.messages[0].attachments, "the picture is with the message")
        assign = cases.AssignCase(
            request_id=uuid4(),
            case=self.case,
            version=mine.version,
            handler=cast.HANDLER,
            partial_reply="Tack, vi har tagit emot ditt ärende.",
        )
        assigned = self._call("receiver", cases.ASSIGN_CASE, assign)
        expect(assigned.state == "assigned", "the case is assigned")
        self._note(case=self.case, message=assigned.message)
        self._arrived("mail", self._mail_of("handler"))
        [sms] = self._arrived("sms", MOBILE)
        expect(sms["message"].startswith(RESIDENT_TEXT), "the SMS has the exact text")

    def counter_question(self) -> None:
        """The handler asks back; the resident gets exactly the SMS of R-NOT-3."""
        shown = self._case("handler", self.case)
        ask = cases.WriteReply(
            request_id=uuid4(),
            case=self.case,
            version=shown.version,
            kind="counter_question",
            text="Hur länge har du haft utslaget?",
        )
        sent = self._call("handler", cases.REPLY, ask)
        expect(sent.state == "awaiting_resident", "the case waits for the resident")
        [sms] = self._arrived("sms", MOBILE)
        expect(sms["message"] == RESIDENT_TEXT, "the SMS is the text of R-NOT-3 and nothing else")
        self._note(case=self.case, message=sent.message)

    def resident_answers(self) -> None:
        """The resident answers; the handler is told."""
        inbox = self._call("resident", cases.LIST_INBOX, cases.ListInbox())
        expect(any(one.case == self.case for one in inbox.cases), "the case is in the inbox")
        shown = self._case("resident", self.case)
        expect(shown.messages[-1].signature, "the question is signed")
        write = cases.SendMessage(request_id=uuid4(), case=self.case, text="I ungefär en vecka.")
        sent = self._call("resident", cases.SEND_MESSAGE, write)
        self._arrived("mail", self._mail_of("handler"))
        self._note(case=self.case, message=sent.message)

    def answer_with_document(self) -> None:
        """The handler answers with a PDF, which closes the case."""
        self.document = document()
        self.paper = self._usable("handler", "råd om hudvård.pdf", "application/pdf", self.document)
        shown = self._case("handler", self.case)
        reply = cases.WriteReply(
            request_id=uuid4(),
            case=self.case,
            version=shown.version,
            kind="answer",
            text="Smörj enligt råden i dokumentet. Hör av dig om det inte blir bättre.",
            attachments=[self.paper],
        )
        sent = self._call("handler", cases.REPLY, reply)
        expect(sent.state == "closed", "an answer closes the case")
        self._arrived("sms", MOBILE)
        self._note(case=self.case, message=sent.message, attachment=self.paper)

    def download(self) -> None:
        """The resident downloads the PDF, the handler the picture: byte for byte what was sent."""
        for who, attachment, sent in (("resident", self.paper, self.document), ("handler", self.image, self.picture)):
            opened = self._call(who, cases.OPEN_ATTACHMENT, cases.OpenAttachment(case=self.case, attachment=attachment))
            answer = requests.get(opened.url, timeout=30)
            expect(answer.status_code == 200, f"the store gives the file, not status {answer.status_code}")
            guarded = answer.headers.get("X-Content-Type-Options") == "nosniff"
            expect(guarded, "a browser is told not to guess what the file is")
            same = hashlib.sha256(answer.content).digest() == hashlib.sha256(sent).digest()
            expect(same, "the file is byte for byte what was sent")
            self._say(f"{opened.name}: {len(answer.content)} bytes, identical")
        self._note(case=self.case, attachment=self.paper)

    # --- 5. what is kept from whom ----------------------------------------------------------------------------------

    def outsiders_refused(self) -> None:
        """Staff without a role, another resident and someone with a forged token are refused alike."""
        self._staff("outsider", cast.OUTSIDER)
        self._resident("neighbour", cast.SECOND_RESIDENT)
        for who in ("outsider", "neighbour"):
            self._refused("not_found", lambda who=who: self._case(who, self.case))  # type: ignore[misc]
        head, body, signature = self.tokens["handler"].split(".")
        self.tokens["forger"] = f"{head}.{body}.{signature[::-1]}"
        self._refused("not_authenticated", lambda: self._case("forger", self.case))
        self._note(case=self.case)

    def right_taken_back(self) -> None:
        """A right is taken back, and works no more within a second."""
        self._staff("second", cast.SECOND_HANDLER)
        self._call("second", cases.LIST_MY_CASES, cases.ListMyCases(clinic=self.clinic))
        take = identity.TakeRole(
            request_id=uuid4(), clinic=self.clinic, person=cast.SECOND_HANDLER, role=Role.CASE_HANDLER
        )
        self._call("admin", identity.TAKE_ROLE, take)
        began = time.monotonic()
        while True:
            try:
                self._call("second", cases.LIST_MY_CASES, cases.ListMyCases(clinic=self.clinic))
            except Refused as error:
                expect(error.code == "forbidden", f"refused as forbidden, not {error.code}")
                break
            expect(time.monotonic() - began < 1.0, "the right stops working within a second (R-ID-10)")
        self._say(f"refused {1000 * (time.monotonic() - began):.0f} ms after it was taken")
        self._note(person=cast.SECOND_HANDLER, clinic=self.clinic)

    def access_log(self) -> None:
        """The log reviewer and the resident see who has read the case."""
        self._staff("reviewer", cast.LOG_REVIEWER)
        log = self._call("reviewer", cases.ACCESS_LOG, cases.ReadAccessLog(clinic=self.clinic, case=self.case))
        readers = {one.person for one in log.entries}
        expect({cast.RECEIVER, cast.HANDLER} <= readers, "both who read it are in the log")
        expect(cast.OUTSIDER not in readers, "who was refused has not read it")
        mine = self._call("resident", cases.MY_ACCESS_LOG, cases.ReadMyAccessLog())
        expect(mine.entries, "the resident sees who has read their cases")
        self._say(f"{len(log.entries)} readings logged, by {len(readers)} persons")
        self._note(case=self.case)

    def unanswered_question_closes(self) -> None:
        """Another case's counter-question stays unanswered; the clock moves on a month, and it closes by itself."""
        start = cases.StartCase(
            request_id=uuid4(),
            clinic=self.clinic,
            case_type=self.case_type,
            answers=[cases.Answer(component="arende", values=["Behöver jag ta nya prover?"])],
        )
        case = self._call("resident", cases.START_CASE, start).case
        shown = self._case("receiver", case)
        assign = cases.AssignCase(request_id=uuid4(), case=case, version=shown.version, handler=cast.HANDLER)
        version = self._call("receiver", cases.ASSIGN_CASE, assign).version
        ask = cases.WriteReply(
            request_id=uuid4(), case=case, version=version, kind="counter_question", text="När togs de förra?"
        )
        self._call("handler", cases.REPLY, ask)
        self._note(case=case)
        self.world.move_clock(timedelta(days=32))
        self._resident("resident", cast.RESIDENT)  # a month later every session has ended
        ends = time.monotonic() + WAIT_SECONDS
        while (now := self._case("resident", case)).state != "closed":
            expect(time.monotonic() < ends, "the case closes by itself when a month has passed")
            time.sleep(0.2)
        expect(now.closed_reason == "counter_question_expired", f"closed for that reason, not {now.closed_reason}")
        self._say("32 days later: closed by the system, counter_question_expired")


STEPS: list[tuple[str, Callable[[Story], None]]] = [
    ("the directory loads clinics and staff from KiV's feed", Story.load_directory),
    ("the operator makes the first regional administrator", Story.first_administrator),
    ("the clinic is found and activated", Story.activate_clinic),
    ("roles are given by HSA-id, one pasted with stray blanks", Story.give_roles),
    ('the case type "Kontakta mig" with "Bifoga filer" is activated', Story.activate_case_type),
    ("the clinic's notification address is entered", Story.clinic_address),
    ("a resident logs in, accepts the terms and chooses SMS", Story.resident_logs_in),
    ("the resident starts a case with a picture", Story.start_case),
    ("the clinic's address and the receiver get their mail", Story.told_of_new_case),
    ("the receiver assigns it with a partial reply; the handler is told", Story.assign),
    ("the handler asks a counter-question; the resident gets the SMS", Story.counter_question),
    ("the resident answers; the handler is told", Story.resident_answers),
    ("the handler answers with a PDF", Story.answer_with_document),
    ("the files are downloaded, byte for byte", Story.download),
    ("those without the right are refused", Story.outsiders_refused),
    ("a right is taken back and works no more", Story.right_taken_back),
    ("the access log shows who read", Story.access_log),
    ("an unanswered counter-question closes by itself", Story.unanswered_question_closes),
]
