"""The conversation with a Postfix: a server that nobody wrote for these tests."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from mail.errors import MailError, Refused, SettingsWrong, Stage, TryLater, Uncertain, Withdrawn
from mail.smtp import Conversation, Encryption, Envelope
from tests.fakes import tools
from tests.fakes.certs import ServerCert
from tests.fakes.postfix import DEFERRED, REJECTED, REJECTED_SENDER, SIZE_LIMIT_BYTES, Postfix
from tests.mail.conftest import Watch
from tests.patience import PATIENT

Dial = Callable[..., Conversation]
SHOP, ANNA, BEN = "shop@example.com", "anna@example.com", "ben@example.com"
FORMS = ("submission", "smtps", "pipelined", "plain")
JUDGES_LATE, JUDGES_AT_ONCE = ("submission", "smtps"), ("pipelined", "plain", "chunked_unsized")


@pytest.fixture(scope="session")
def postfix(cert: ServerCert) -> Iterator[Postfix]:
    if tools.postfix() is None:
        assert not os.environ.get("CI"), "Postfix must be there in CI, and the tests must run as root"
        pytest.skip("Postfix is not installed, or the tests do not run as root")
    server = Postfix(cert)
    yield server
    server.stop()


@pytest.fixture
def call(dial: Dial, postfix: Postfix) -> Dial:
    """Open a conversation with a service of Postfix."""

    def opened(service: str, **more: object) -> Conversation:
        encryption = Encryption.IMPLICIT if service == "smtps" else Encryption.STARTTLS
        conversation = dial(postfix.services[service], encryption, **more)
        conversation.open()
        return conversation

    return opened


def _message(subject: str, body: bytes = b"Good morning.\r\n") -> bytes:
    return f"Subject: {subject}\r\n\r\n".encode() + body


def _of_size(size: int, subject: str = "long") -> bytes:
    """A message of exactly so many bytes, in lines that do not repeat."""
    start = _message(subject, b"")
    lines = b"".join(b"%09d the quick brown fox jumps over the lazy dog\r\n" % number for number in range(size // 50))
    return start + lines[: size - len(start) - 2] + b"\r\n" if size > len(start) else start


CONTENTS = {
    "plain text": _message("plain"),
    "empty body": _message("empty", b""),
    "dots": _message("dots", b".\r\n..\r\n...\r\n.begins with one\r\nnot. this one\r\n.\r\n\r\n.\r\n"),
    "dots where blocks end": _message("blocks", (b"x" * 61 + b"\r\n.") * 5_000 + b"\r\n"),
    "UTF-8 body": _message("eight bits", "Grüße aus Köln, 你好, 🎈\r\n".encode()),
    "lines of 998 octets": _message("wide", (b"a" * 998 + b"\r\n." + b"b" * 997 + b"\r\n") * 20),
    "300 KB": _of_size(300_000),
    "what looks like commands": _message("commands", b"QUIT\r\nBDAT 5 LAST\r\nFrom somebody\r\n>From me\r\n"),
}


# Encryption and greeting ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["submission", "smtps"])
def test_it_arrives_encrypted_by_starttls_and_by_implicit_tls(call: Dial, postfix: Postfix, service: str) -> None:
    watch = Watch()
    result = call(service, observe=watch).send(SHOP, [ANNA], _message("hello"))
    stored = postfix.stored(result.queue_id)
    assert (stored.sender, stored.recipient) == (SHOP, ANNA)
    assert "with ESMTPS id" in stored.received
    assert (
        f"using {watch.facts(Stage.TLS)['version']} with cipher {watch.facts(Stage.TLS)['cipher']}" in stored.received
    )
    assert watch.facts(Stage.TLS)["implicit"] is (service == "smtps")
    assert watch.facts(Stage.GREET)["banner"] == "postfix.test ESMTP Postfix"
    assert watch.facts(Stage.MESSAGE)["queue_id"] == result.queue_id


def test_implicit_tls_on_the_starttls_port_is_told_apart(dial: Dial, postfix: Postfix) -> None:
    with pytest.raises(SettingsWrong, match=r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE") as caught:
        dial(postfix.services["submission"], Encryption.IMPLICIT).open()
    assert caught.value.stage is Stage.TLS


def test_starttls_on_the_implicit_tls_port_ends_at_the_deadline(dial: Dial, postfix: Postfix) -> None:
    quick = replace(PATIENT, command_s=0.2)
    with pytest.raises(TryLater) as caught:
        dial(postfix.services["smtps"], timeouts=quick).open()
    assert caught.value.stage is Stage.GREET


@pytest.mark.parametrize(
    ("service", "offers"),
    [
        ("submission", {"PIPELINING", "CHUNKING"}),
        ("smtps", {"PIPELINING", "CHUNKING"}),
        ("pipelined", {"PIPELINING"}),
        ("plain", set()),
    ],
)
def test_each_form_of_transmission_has_a_service_that_asks_for_it(call: Dial, service: str, offers: set[str]) -> None:
    watch = Watch()
    call(service, observe=watch)
    offered = watch.facts(Stage.GREET)["capabilities"]
    assert {"PIPELINING", "CHUNKING"} & set(offered) == offers
    assert {f"SIZE {SIZE_LIMIT_BYTES}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN"} <= set(offered)


# Contents ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("service", FORMS)
def test_every_byte_arrives_as_it_was(call: Dial, postfix: Postfix, service: str, content: bytes) -> None:
    result = call(service).send(SHOP, [ANNA], content)
    assert postfix.stored(result.queue_id).content == content


@pytest.mark.parametrize("service", FORMS)
def test_international_addresses_and_headers_arrive(call: Dial, postfix: Postfix, service: str) -> None:
    content = "Subject: Grüße\r\nFrom: jürgen@example.com\r\n\r\nx\r\n".encode()
    result = call(service).send(SHOP, ["jürgen@example.com"], content)
    stored = postfix.stored(result.queue_id)
    assert (stored.recipient, stored.content) == ("jürgen@example.com", content)
    assert "with UTF8SMTPS id" in stored.received


@pytest.mark.parametrize("service", FORMS)
def test_a_name_for_bounces_is_taken(call: Dial, postfix: Postfix, service: str) -> None:
    result = call(service).send(SHOP, [ANNA], _message("named"), envelope_id="order-4711.attempt_2")
    assert postfix.stored(result.queue_id).content == _message("named")


@pytest.mark.parametrize("service", FORMS)
def test_a_withdrawn_message_is_not_delivered(call: Dial, postfix: Postfix, service: str) -> None:
    content = _of_size(100_000, f"withdrawn from {service}")
    with pytest.raises(Withdrawn):
        call(service).send(SHOP, [ANNA], content, before_commit=lambda: False)
    result = call(service).send(SHOP, [ANNA], _message("meant"), before_commit=lambda: True)
    postfix.stored(result.queue_id)
    assert content not in postfix.contents()


# Connections ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("service", "command"), [("submission", "bdat"), ("pipelined", "data"), ("plain", "data")])
def test_several_messages_share_a_connection_that_ends_by_quit(
    call: Dial, postfix: Postfix, service: str, command: str
) -> None:
    conversation = call(service)
    contents = [_message(f"number {number}", b".\r\n" * number) for number in range(5)]
    results = [conversation.send(SHOP, [ANNA], content) for content in contents]
    conversation.close()
    assert [postfix.stored(result.queue_id).content for result in results] == contents
    farewell = postfix.farewell(results[0].queue_id)
    assert farewell == {"ehlo": 2, "starttls": 1, "mail": 5, "rcpt": 5, command: 5, "quit": 1, "commands": 19}


@pytest.mark.parametrize("service", FORMS)
def test_a_kept_connection_can_be_asked_whether_it_lives(call: Dial, postfix: Postfix, service: str) -> None:
    conversation = call(service)
    conversation.send(SHOP, [ANNA], _message("before"))
    assert conversation.is_usable(ask_after_s=0)
    result = conversation.send(SHOP, [ANNA], _message("after"))
    assert postfix.stored(result.queue_id).content == _message("after")


def test_a_connection_the_server_gave_up_is_noticed_before_and_survived_after(call: Dial) -> None:
    """Takes the second that this service waits for a command before it says 421 and hangs up."""
    asked, used = call("impatient"), call("impatient")
    deadline = time.monotonic() + 10
    while asked.is_usable(ask_after_s=60) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not asked.is_open
    used_wire = used._session.live_wire(Stage.GREET)
    while not used_wire.is_disturbed() and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(TryLater) as caught:
        used.send(SHOP, [ANNA], _message("too late"))
    assert caught.value.reply_code == 421
    assert not used.is_open


# Refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, 300_000], ids=["short", "long"])
@pytest.mark.parametrize("service", FORMS)
def test_each_recipient_has_a_result_of_its_own(call: Dial, postfix: Postfix, service: str, size: int) -> None:
    content = _of_size(size)
    result = call(service).send(SHOP, [REJECTED, ANNA, DEFERRED, BEN], content)
    assert [(one.address, one.accepted, one.temporary, one.reply.code) for one in result.recipients] == [
        (REJECTED, False, False, 550),
        (ANNA, True, False, 250),
        (DEFERRED, False, True, 450),
        (BEN, True, False, 250),
    ]
    assert [one.reply.enhanced for one in result.recipients] == ["5.1.1", "2.1.5", "4.2.1", "2.1.5"]
    copies = postfix.all_stored(result.queue_id, 2)
    assert [(copy.recipient, copy.content) for copy in copies] == [(ANNA, content), (BEN, content)]


@pytest.mark.parametrize(
    ("recipients", "kind", "codes"),
    [
        ((REJECTED,), Refused, [550]),
        ((DEFERRED,), TryLater, [450]),
        ((REJECTED, DEFERRED), TryLater, [550, 450]),
        (("elsewhere@shop.test", REJECTED), SettingsWrong, [554, 550]),
    ],
    ids=["rejected", "deferred", "both", "no relay"],
)
@pytest.mark.parametrize("size", [100, 300_000], ids=["short", "long"])
@pytest.mark.parametrize("service", FORMS)
def test_when_nobody_is_left_the_next_message_passes(
    call: Dial,
    postfix: Postfix,
    service: str,
    size: int,
    recipients: tuple[str, ...],
    kind: type[MailError],
    codes: list[int],
) -> None:
    conversation = call(service)
    refused = _of_size(size, f"nobody at {service} gets this")
    with pytest.raises(kind) as caught:
        conversation.send(SHOP, recipients, refused)
    assert caught.value.stage is Stage.RECIPIENT
    assert [one.reply.code for one in caught.value.results] == codes
    result = conversation.send(SHOP, [ANNA], _message("next"))
    assert postfix.stored(result.queue_id).content == _message("next")
    assert refused not in postfix.contents()


@pytest.mark.parametrize("size", [100, 300_000], ids=["short", "long"])
@pytest.mark.parametrize(
    ("service", "stage"),
    [("submission", Stage.RECIPIENT), ("smtps", Stage.RECIPIENT), ("pipelined", Stage.SENDER), ("plain", Stage.SENDER)],
)
def test_after_a_refused_sender_the_next_message_passes(
    call: Dial, postfix: Postfix, service: str, stage: Stage, size: int
) -> None:
    conversation = call(service)
    with pytest.raises(MailError, match="Sender address rejected: This sender is not wanted here") as caught:
        conversation.send(REJECTED_SENDER, [ANNA, BEN], _of_size(size))
    assert (caught.value.stage, caught.value.reply_code) == (stage, 550)
    result = conversation.send(SHOP, [ANNA], _message("next"))
    assert postfix.stored(result.queue_id).content == _message("next")


def test_a_sender_refused_at_once_voids_what_was_sent_along(call: Dial, postfix: Postfix) -> None:
    conversation = call("chunked_unsized")
    with pytest.raises(MailError, match="Sender address rejected") as caught:
        conversation.send(REJECTED_SENDER, [ANNA, BEN], _message("refused"))
    assert (caught.value.stage, caught.value.results) == (Stage.SENDER, ())
    result = conversation.send(SHOP, [ANNA], _message("next"))
    assert postfix.stored(result.queue_id).content == _message("next")


# Size ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", FORMS)
def test_a_message_over_the_announced_limit_is_not_begun(call: Dial, postfix: Postfix, service: str) -> None:
    conversation = call(service)
    with pytest.raises(Refused) as caught:
        conversation.send(SHOP, [ANNA], _of_size(SIZE_LIMIT_BYTES + 1))
    assert caught.value.code == "too_large"
    result = conversation.send(SHOP, [ANNA], _message("short"))
    conversation.close()
    farewell = postfix.farewell(result.queue_id)
    assert (farewell["mail"], farewell.get("mail/attempted", 1)) == (1, 1)


@pytest.mark.parametrize("service", FORMS)
def test_a_size_the_server_refuses_in_answer_to_mail_costs_no_data(call: Dial, postfix: Postfix, service: str) -> None:
    conversation = call(service)
    # As if the server had not named its limit, yet wanted to know the size.
    conversation._session.capabilities["SIZE"] = ""
    with pytest.raises(Refused, match="Message size exceeds fixed limit") as caught:
        conversation.send(SHOP, [ANNA], _of_size(SIZE_LIMIT_BYTES + 1))
    assert caught.value.reply_code == 552
    result = conversation.send(SHOP, [ANNA], _message("short"))
    conversation.close()
    assert postfix.stored(result.queue_id).content == _message("short")
    assert postfix.farewell(result.queue_id)["mail/attempted"] == 2


@pytest.mark.parametrize("size", [250_000, 281_000, 600_000], ids=["one write", "last chunk", "first chunk"])
@pytest.mark.parametrize("service", ["chunked_unsized", "pipelined_unsized", "plain_unsized"])
def test_after_a_limit_that_only_the_data_met_the_next_message_passes(
    call: Dial, postfix: Postfix, service: str, size: int
) -> None:
    conversation = call(service)
    with pytest.raises(Refused) as caught:
        conversation.send(SHOP, [ANNA], _of_size(size))
    assert (caught.value.stage, caught.value.reply_code) == (Stage.MESSAGE, 552)
    result = conversation.send(SHOP, [ANNA], _message("short"))
    assert postfix.stored(result.queue_id).content == _message("short")


# Several in flight ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("service", FORMS)
def test_a_backlog_arrives_once_each_and_in_order(call: Dial, postfix: Postfix, service: str, window: int) -> None:
    contents = [_of_size(60 + 40 * number, f"{service} {window} {number}") for number in range(12)]
    contents[5] = _of_size(300_000, f"{service} {window} is long")
    conversation = call(service)
    sent = list(conversation.send_all([Envelope(SHOP, (ANNA,), content) for content in contents], window=window))
    conversation.close()
    assert [one.envelope.content for one in sent] == contents
    results = [one.result for one in sent if one.result is not None]
    assert [postfix.stored(result.queue_id).content for result in results] == contents
    assert [postfix.contents().count(content) for content in contents] == [1] * len(contents)
    assert postfix.farewell(results[0].queue_id)["mail"] == len(contents)


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("service", FORMS)
def test_what_one_message_meets_in_flight_touches_no_other(
    call: Dial, postfix: Postfix, service: str, window: int
) -> None:
    marks = ("fine", "nobody", "also fine", "bad sender", "partly", "too large", "deferred", "last")
    envelopes = [
        Envelope(
            REJECTED_SENDER if mark == "bad sender" else SHOP,
            {"nobody": (REJECTED,), "partly": (REJECTED, BEN), "deferred": (DEFERRED,)}.get(mark, (ANNA,)),
            _of_size(SIZE_LIMIT_BYTES + 1 if mark == "too large" else 120, f"{mark} {service} {window}"),
        )
        for mark in marks
    ]
    sent = list(call(service).send_all(envelopes, window=window))
    assert [one.envelope for one in sent] == envelopes
    assert {mark: type(one.error) for mark, one in zip(marks, sent, strict=True) if one.error} == {
        "nobody": Refused,
        "bad sender": type(sent[3].error),
        "too large": Refused,
        "deferred": TryLater,
    }
    for mark, one in zip(marks, sent, strict=True):
        if one.result is not None:
            stored = postfix.stored(one.result.queue_id)
            assert (stored.recipient, stored.content) == (BEN if mark == "partly" else ANNA, one.envelope.content)
    refused = [one.envelope.content for one in sent if one.error]
    assert not set(refused) & set(postfix.contents())


@pytest.mark.parametrize("window", [1, 4, 8])
def test_a_server_that_has_had_enough_of_errors_leaves_no_more_than_the_window_in_doubt(
    call: Dial, postfix: Postfix, window: int
) -> None:
    """After 20 errors Postfix says 421 and hangs up. With commands unread behind it, its last words may get lost."""
    conversation = call("submission")
    backlog = iter([Envelope(SHOP, (REJECTED,), _message(f"nobody {window} {number}")) for number in range(30)])
    kinds = [type(one.error) for one in conversation.send_all(backlog, window=window)]
    assert not conversation.is_open
    refused = kinds.count(Refused)
    assert set(kinds[:refused]) == {Refused}
    undecided = kinds[refused:]
    assert len(undecided) <= window
    assert set(undecided) <= ({TryLater, Uncertain} if window > 1 else {TryLater})
    assert len(list(backlog)) == 30 - len(kinds)


@pytest.mark.parametrize("service", FORMS)
def test_more_recipients_than_one_group_are_all_served(call: Dial, postfix: Postfix, service: str) -> None:
    recipients = [f"guest-{number:03}@example.com" for number in range(120)]
    recipients[110] = REJECTED
    result = call(service).send(SHOP, recipients, _message("party"))
    assert [one.address for one in result.recipients if not one.accepted] == [REJECTED]
    copies = postfix.all_stored(result.queue_id, 119)
    assert [copy.recipient for copy in copies] == [one for one in recipients if one != REJECTED]
    assert {copy.content for copy in copies} == {_message("party")}
