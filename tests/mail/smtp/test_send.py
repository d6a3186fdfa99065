"""Handing over a message: envelope, data, the moment that commits, and what the server makes of it."""

import re

import pytest

from mail.errors import MailError, Refused, SettingsWrong, Stage, TryLater
from mail.smtp import Timeouts
from tests.fakes.mta import MTA
from tests.mail.conftest import BEARER, MESSAGE, Watch
from tests.mail.smtp.talk import ANNA, BEN, CLEAR, CLEO, Dial, answering, opened


def test_a_message_arrives_with_its_envelope(dial: Dial, mta: MTA) -> None:
    watch = Watch()
    result = opened(dial, mta, observe=watch).send("shop@example.com", [ANNA, BEN], MESSAGE)
    message = mta.received[0]
    assert (message.sender, message.recipients, message.content) == ("shop@example.com", (ANNA, BEN), MESSAGE)
    assert [(one.address, one.accepted, one.reply.code) for one in result.recipients] == [
        (ANNA, True, 250),
        (BEN, True, 250),
    ]
    assert (result.reply.code, result.queue_id) == (250, "4F2B1C0D3E")
    assert watch.facts(Stage.SENDER) == {"address": "shop@example.com"}
    assert watch.facts(Stage.RECIPIENT) == {"address": ANNA, "code": 250, "text": "2.1.5 Recipient ok"}
    assert watch.facts(Stage.MESSAGE) == {
        "code": 250,
        "text": "2.0.0 Ok: queued as 4F2B1C0D3E",
        "queue_id": "4F2B1C0D3E",
        "size_bytes": len(MESSAGE),
    }


def test_the_dialogue_is_one_command_one_reply(dial: Dial) -> None:
    with answering("250 ok", "250 ok", "251 will forward", "354 go", "250 done", extensions=("SIZE 9999",)) as server:
        opened(dial, server).send("shop@example.com", [ANNA, BEN], MESSAGE)
    assert server.dialogue[4:] == [
        f"C: MAIL FROM:<shop@example.com> SIZE={len(MESSAGE)}",
        "S: 250 ok",
        f"C: RCPT TO:<{ANNA}>",
        "S: 250 ok",
        f"C: RCPT TO:<{BEN}>",
        "S: 251 will forward",
        "C: DATA",
        "S: 354 go",
        f"C: <message, {len(MESSAGE)} bytes>",
        "C: .",
        "S: 250 done",
    ]


def test_parameters_are_named_only_when_offered_and_needed(dial: Dial) -> None:
    eight_bit = b"Subject: x\r\n\r\ngr\xc3\xbcn\r\n"
    international = "Subject: grün\r\n\r\nx\r\n".encode()
    offered = ("SIZE", "8BITMIME", "SMTPUTF8")
    expected = {
        MESSAGE: f"MAIL FROM:<s@example.com> SIZE={len(MESSAGE)}",
        eight_bit: f"MAIL FROM:<s@example.com> SIZE={len(eight_bit)} BODY=8BITMIME",
        international: f"MAIL FROM:<s@example.com> SIZE={len(international)} BODY=8BITMIME SMTPUTF8",
    }
    for content, line in expected.items():
        with answering("250 ok", "250 ok", "354 go", "250 done", extensions=offered) as server:
            opened(dial, server).send("s@example.com", [ANNA], content)
        assert server.said_by_client[1] == line


def test_an_international_local_part_asks_for_smtputf8(dial: Dial, mta: MTA) -> None:
    opened(dial, mta).send("shop@example.com", ["jürgen@example.com"], MESSAGE)
    assert mta.received[0].recipients == ("jürgen@example.com",)
    assert "SMTPUTF8" in mta.received[0].mail_options


def test_a_recipient_who_needs_smtputf8_is_refused_alone_where_it_is_missing(dial: Dial) -> None:
    with MTA(smtputf8=False) as mta:
        result = opened(dial, mta).send("shop@example.com", ["jürgen@example.com", ANNA], MESSAGE)
    assert [one.accepted for one in result.recipients] == [False, True]
    assert "SMTPUTF8" in result.recipients[0].reply.text
    assert mta.received[0].recipients == (ANNA,)


def test_a_sender_who_needs_smtputf8_is_a_matter_of_settings_where_it_is_missing(dial: Dial) -> None:
    with MTA(smtputf8=False) as mta, pytest.raises(SettingsWrong, match="SMTPUTF8") as caught:
        opened(dial, mta).send("jürgen@example.com", [ANNA], MESSAGE)
    assert caught.value.stage is Stage.SENDER


@pytest.mark.parametrize("content", ["Subject: ü\r\n\r\nx\r\n".encode(), b"Subject: x\r\n\r\n\xc3\xbc\r\n"])
def test_bytes_the_server_does_not_carry_are_refused_before_anything_is_said(dial: Dial, content: bytes) -> None:
    with answering() as server, pytest.raises(Refused):
        opened(dial, server).send("s@example.com", [ANNA], content)
    assert server.said_by_client == ["EHLO localhost"]


def test_domains_travel_in_ascii(dial: Dial, mta: MTA) -> None:
    result = opened(dial, mta).send("shop@bücher.example", ["anna@münchen.example"], MESSAGE)
    assert mta.received[0].sender == "shop@xn--bcher-kva.example"
    assert mta.received[0].recipients == ("anna@xn--mnchen-3ya.example",)
    assert result.recipients[0].address == "anna@münchen.example"


def test_an_empty_sender_is_the_null_path(dial: Dial) -> None:
    with answering("250 ok", "250 ok", "354 go", "250 done") as server:
        opened(dial, server).send("", [ANNA], MESSAGE)
    assert server.said_by_client[1] == "MAIL FROM:<>"


@pytest.mark.parametrize(
    "address", ["a@b.example>\r\nRCPT TO:<x@y.example", "a b@c.example", "nobody", "@c.example", "a@<b>", "a@ex..ämple"]
)
def test_an_address_that_would_end_the_command_never_reaches_the_wire(dial: Dial, mta: MTA, address: str) -> None:
    conversation = opened(dial, mta)
    result = conversation.send("shop@example.com", [address, ANNA], MESSAGE)
    assert [one.accepted for one in result.recipients] == [False, True]
    assert mta.received[0].recipients == (ANNA,)
    with pytest.raises(SettingsWrong) as caught:
        conversation.send(address, [ANNA], MESSAGE)
    assert caught.value.stage is Stage.SENDER


def test_each_recipient_has_a_result_of_its_own(dial: Dial, mta: MTA) -> None:
    mta.faults.refuse_recipients = {BEN: "550 5.1.1 no such user", CLEO: "452 4.2.2 mailbox full"}
    result = opened(dial, mta).send("shop@example.com", [ANNA, BEN, CLEO], MESSAGE)
    assert [(one.accepted, one.temporary, one.reply.enhanced) for one in result.recipients] == [
        (True, False, "2.1.5"),
        (False, False, "5.1.1"),
        (False, True, "4.2.2"),
    ]
    assert mta.received[0].recipients == (ANNA,)


def test_too_many_recipients_is_temporary_whatever_its_first_digit(dial: Dial, mta: MTA) -> None:
    mta.faults.refuse_recipients = {BEN: "550 5.5.3 too many recipients"}
    result = opened(dial, mta).send("shop@example.com", [ANNA, BEN], MESSAGE)
    assert result.recipients[1].temporary


@pytest.mark.parametrize(
    ("replies", "kind"),
    [
        (("550 5.1.1 no such user", "550 5.1.1 unknown"), Refused),
        (("550 5.1.1 no such user", "451 4.3.0 later"), TryLater),
        (("451 4.3.0 later", "554 5.7.1 Relay access denied"), SettingsWrong),
    ],
)
def test_when_all_are_refused_the_gravest_reason_speaks_and_the_results_go_along(
    dial: Dial, mta: MTA, replies: tuple[str, str], kind: type[MailError]
) -> None:
    mta.faults.refuse_recipients = dict(zip((ANNA, BEN), replies, strict=True))
    conversation = opened(dial, mta)
    with pytest.raises(kind) as caught:
        conversation.send("shop@example.com", [ANNA, BEN], MESSAGE)
    assert (caught.value.code in {"recipients_refused", "temporary"}, caught.value.stage) == (True, Stage.RECIPIENT)
    assert [one.reply.code for one in caught.value.results] == [int(reply[:3]) for reply in replies]
    assert mta.received == []
    mta.faults.refuse_recipients = {}
    conversation.send("shop@example.com", [ANNA], MESSAGE)
    assert len(mta.received) == 1


def test_a_421_at_a_recipient_puts_off_the_whole_message(dial: Dial) -> None:
    with answering("250 ok", "250 ok", "421 4.3.2 closing") as server, pytest.raises(TryLater) as caught:
        opened(dial, server).send("s@example.com", [ANNA, BEN, CLEO], MESSAGE)
    assert caught.value.reply_code == 421
    assert server.said_by_client[-1] == f"RCPT TO:<{BEN}>"


def test_nobody_to_send_to_is_refused(dial: Dial, mta: MTA) -> None:
    with pytest.raises(Refused, match="no recipient"):
        opened(dial, mta).send("s@example.com", [], MESSAGE)


@pytest.mark.parametrize(
    ("provider", "reply", "kind", "code"),
    [
        ("microsoft365", "550 5.7.60 SMTP; Client does not have permissions", SettingsWrong, "sender_refused"),
        ("microsoft365", "530 5.7.57 Client not authenticated to send mail", SettingsWrong, "sender_refused"),
        ("other", "451 4.3.0 later", TryLater, "temporary"),
        ("other", "450 4.1.8 Sender address rejected: Domain not found", TryLater, "temporary"),
        ("fastmail", "550 5.7.1 something of its own", Refused, "sender_refused"),
        ("fastmail", "571 something of its own", Refused, "sender_refused"),
    ],
)
def test_a_refused_sender_is_judged_by_the_catalogue(
    dial: Dial, mta: MTA, provider: str, reply: str, kind: type[MailError], code: str
) -> None:
    mta.faults.refuse_sender = reply
    with pytest.raises(kind) as caught:
        opened(dial, mta, provider=provider).send("s@example.com", [ANNA], MESSAGE)
    assert (caught.value.code, caught.value.stage, caught.value.detail) == (code, Stage.SENDER, reply)


@pytest.mark.parametrize(
    ("provider", "reply", "kind", "code"),
    [
        ("microsoft365", "554 5.2.252 SendAsDenied; shop@example.com", SettingsWrong, "message_refused"),
        ("microsoft365", "554 5.2.0 SubmissionQuotaExceededException", TryLater, "throttled"),
        ("microsoft365", "421 4.4.2 Message submission rate for this client exceeded", TryLater, "throttled"),
        (
            "google",
            "552 5.7.0 blocked because its content presents a potential security issue",
            Refused,
            "message_refused",
        ),
        ("other", "552 5.3.4 message too big", Refused, "message_refused"),
        ("other", "554 5.7.1 spam", SettingsWrong, "message_refused"),
        ("other", "452 4.3.1 no space", TryLater, "throttled"),
    ],
)
@pytest.mark.parametrize("when", ["before the data", "after the dot"])
def test_a_refused_message_is_judged_by_the_catalogue(
    dial: Dial, provider: str, reply: str, kind: type[MailError], code: str, when: str
) -> None:
    answers = ("354 go", reply) if when == "after the dot" else (reply,)
    with answering("250 ok", "250 ok", *answers) as server, pytest.raises(kind) as caught:
        opened(dial, server, provider=provider).send("s@example.com", [ANNA], MESSAGE)
    assert (caught.value.code, caught.value.stage, caught.value.detail) == (code, Stage.MESSAGE, reply)


def test_data_answered_by_anything_but_354_sends_no_message(dial: Dial) -> None:
    with answering("250 ok", "250 ok", "250 what data?") as server, pytest.raises(TryLater):
        opened(dial, server).send("s@example.com", [ANNA], MESSAGE)
    assert server.said_by_client[-1] == "DATA"


def test_several_messages_share_one_conversation(dial: Dial, mta: MTA) -> None:
    conversation = opened(dial, mta)
    for number in range(3):
        conversation.send("s@example.com", [ANNA], b"Subject: %d\r\n\r\n.\r\n" % number)
    assert [one.content for one in mta.received] == [b"Subject: %d\r\n\r\n.\r\n" % number for number in range(3)]
    assert mta.connections == 1


def test_a_message_that_exceeds_the_announced_size_is_not_begun(dial: Dial) -> None:
    with answering(extensions=("SIZE 20",)) as server, pytest.raises(Refused, match="exceeds fixed maximum") as caught:
        opened(dial, server).send("s@example.com", [ANNA], MESSAGE)
    assert caught.value.code == "too_large"
    assert server.said_by_client == ["EHLO localhost"]


@pytest.mark.parametrize("size", ["0", "", "plenty"])
def test_a_size_that_names_no_limit_is_none(dial: Dial, size: str) -> None:
    with answering("250 ok", "250 ok", "354 go", "250 ok", extensions=(f"SIZE {size}",)) as server:
        opened(dial, server).send("s@example.com", [ANNA], MESSAGE)


@pytest.mark.parametrize("body", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\n.\r\r\nb\r\n", b"no end", b"", b"a\r\n.\nMAIL\r\n"])
def test_other_line_ends_than_crlf_are_refused(dial: Dial, mta: MTA, body: bytes) -> None:
    content = b"Subject: x\r\n\r\n" + body if body else b""
    with pytest.raises(Refused) as caught:
        opened(dial, mta).send("s@example.com", [ANNA], content)
    assert caught.value.code == "unsendable"
    assert mta.received == []


def test_sending_without_a_connection_is_temporary(dial: Dial, mta: MTA) -> None:
    with pytest.raises(TryLater, match="please run connect"):
        dial(mta, CLEAR).send("s@example.com", [ANNA], MESSAGE)
    with pytest.raises(TryLater):
        dial(mta, CLEAR).authenticate(BEARER)


def test_for_a_test_everything_ends_within_thirty_seconds() -> None:
    limits = Timeouts.for_test()
    assert limits.attempt_s == 30
    assert max(limits.connect_s, limits.command_s, limits.data_s, limits.final_s) <= 30


def test_nothing_in_the_conversation_prints() -> None:
    import mail.smtp
    import mail.smtp.lines
    import mail.smtp.session
    import mail.smtp.transfer

    for module in (mail.smtp, mail.smtp.lines, mail.smtp.session, mail.smtp.transfer):
        with open(module.__file__ or "", encoding="utf-8") as source:
            assert not re.search(
                r"\bprint\(|set_debuglevel|^import smtplib|^import logging", source.read(), re.MULTILINE
            )
