"""Every default, in every language, with its sample and with what nobody expects: a whole, readable, harmless mail."""

from __future__ import annotations

import copy
import re
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default as email_policy

import html5lib
import pytest

from mail.compose import Draft, Sender, compose
from mail.templates import kinds, liquid
from mail.templates.kinds import DEFAULT_LOCALES, KINDS, ValueType, default_source, sample
from mail.templates.rendering import DataMissing, Rendered, check
from tests.mail.templates.shop import (
    DEFAULTS,
    HOSTILE_TEXTS,
    LOOKS,
    data_of,
    kind_called,
    mail_of,
    names_in,
    put,
    tree_of,
)

# Gmail shows 102,400 bytes; the usual mail is to be far from it.
CLIPPED_AT = 102_400
USUAL_MAX = 30_000


# The catalogue ------------------------------------------------------------------------------------------------------


def test_the_kinds_of_a_shop_are_there_once_each() -> None:
    keys = [kind.key for kind in KINDS]

    assert len(keys) == len(set(keys)) == 15
    assert kinds.find("order_confirmation") is KINDS[0]
    assert kinds.find("order-confirmation") is None


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.key)
def test_a_kind_says_in_one_sentence_when_it_is_sent(kind: kinds.Kind) -> None:
    assert re.fullmatch(r"Goes to [^.!]+\.", kind.purpose)
    assert len({variable.path for variable in kind.variables}) == len(kind.variables)


@pytest.mark.parametrize(("key", "locale"), DEFAULTS)
def test_the_sample_has_every_name_of_the_catalogue_and_no_other(key: str, locale: str) -> None:
    kind = kind_called(key)

    assert set(names_in(sample(kind, locale))) == {variable.path for variable in kind.variables}


@pytest.mark.parametrize(("key", "locale"), DEFAULTS)
def test_every_name_of_the_catalogue_is_of_use(key: str, locale: str) -> None:
    used = _names_used(key, locale)

    # What an object is given away for, its parts may be asked for; a list's items are within a part.
    unused = [
        variable.path
        for variable in kind_called(key).variables
        if not any(variable.path == name or variable.path.startswith(f"{name}[]") for name in used)
    ]
    assert unused == []


def test_the_languages_ask_for_the_same_data() -> None:
    for kind in KINDS:
        assert _names_used(kind.key, "de") == _names_used(kind.key, "en"), kind.key


def _names_used(key: str, locale: str) -> set[str]:
    source = default_source(kind_called(key), locale)
    texts = [(source.subject, False), (source.preheader, False), (source.html, True), (source.text, False)]
    uses = {use.path for text, is_html in texts for use in liquid.compiled(text, is_html=is_html).uses}
    paths = {".".join(word for word in path if word not in ("size", "first", "last")) for path in uses}
    return {path.replace(".[]", "[]") for path in paths if path.partition(".")[0] not in ("store", "look", "locale")}


def test_a_locale_without_texts_gets_those_of_its_language_or_english() -> None:
    kind = KINDS[0]

    assert default_source(kind, "de-AT") == default_source(kind, "de") != default_source(kind, "en")
    assert default_source(kind, "fr") == default_source(kind, "en")
    assert sample(kind, "de-CH") == sample(kind, "de")


def test_a_sample_is_a_copy_of_its_own() -> None:
    sample(KINDS[0], "en")["order"]["lines"].clear()

    assert sample(KINDS[0], "en")["order"]["lines"]


def test_samples_lead_nowhere_real() -> None:
    for kind in KINDS:
        for locale in DEFAULT_LOCALES:
            words = kinds.DEFAULTS.joinpath(locale, kind.key, "sample.json").read_text(encoding="utf-8")
            hosts = re.findall(r"https?://([^/\"]+)|@([\w.-]+)", words)
            assert all((host or domain).endswith(".example") for host, domain in hosts), kind.key


@pytest.mark.parametrize(("key", "locale"), DEFAULTS)
def test_the_words_are_ours(key: str, locale: str) -> None:
    source = default_source(kind_called(key), locale)
    words = " ".join([source.subject, source.preheader, re.sub(r"<!.*?>", "", source.html), source.text])

    assert not re.search(r"\b(please|oops|invalid|successfully)\b", words, re.I)
    assert "!" not in words.replace("!=", "")
    said = re.sub(r"\{[{%].*?[%}]\}|<[^>]*>", "", words, flags=re.S)
    assert '"' not in said
    assert "'" not in said
    if locale == "de":
        assert not re.search(r"\b(du|dein\w*|dich|dir|euch|euer)\b", said, re.I)


# With their samples -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "locale"), DEFAULTS)
def test_a_default_has_nothing_to_complain_of(key: str, locale: str) -> None:
    kind = kind_called(key)

    assert check(kind, default_source(kind, locale), sample(kind, locale), LOOKS[locale], locale) == []


@pytest.mark.parametrize(("key", "locale"), DEFAULTS)
def test_a_default_with_its_sample_is_a_whole_mail(key: str, locale: str) -> None:
    mail = mail_of(key, locale, sample(kind_called(key), locale))

    assert_whole(mail)
    assert len(mail.html.encode()) < USUAL_MAX
    assert not re.search(r"[{}<>]|&[a-z]+;", re.sub(r"<(?:https?://)?[^<> ]+>", "", mail.text))
    assert len(mail.subject) <= 70
    assert 20 <= len(mail.preheader) <= 130
    assert_composed(mail)


@pytest.mark.parametrize(("key", "locale"), DEFAULTS)
def test_the_text_says_what_the_html_says(key: str, locale: str) -> None:
    mail = mail_of(key, locale, sample(kind_called(key), locale))
    card = tree_of(mail.html).xpath("//td[contains(@class, 'content')]")[0]
    for hidden in card.xpath(".//*[contains(@class, 'text-only')]"):
        hidden.drop_tree()
    has_own_text = bool(default_source(kind_called(key), locale).text)

    addresses = {link.get("href").removeprefix("mailto:") for link in card.xpath(".//a")}
    assert all(address in mail.text for address in addresses)
    if not has_own_text:
        said = set(re.findall(r"\w+", " ".join(card.itertext())))
        assert said <= set(re.findall(r"\w+", mail.text))


# With what nobody expects -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hostile", HOSTILE_TEXTS)
@pytest.mark.parametrize(("key", "locale"), DEFAULTS)
def test_hostile_texts_stay_text(key: str, locale: str, hostile: str) -> None:
    text = HOSTILE_TEXTS[hostile]
    mail = mail_of(key, locale, data_of(kind_called(key), text))

    assert_whole(mail)
    tree = tree_of(mail.html)
    assert not tree.xpath("//script|//*[@onerror]|//img[@src='x']")
    assert len(mail.html.encode()) < CLIPPED_AT
    if hostile == "liquid":
        assert "{{ store.name }}" in mail.html
    if hostile == "conditional comment":
        comments = [str(comment) for comment in tree.iter() if not isinstance(comment.tag, str)]
        assert not any("<b>" in comment for comment in comments)
    assert_composed(mail)


@pytest.mark.parametrize(("key", "locale"), DEFAULTS)
def test_ten_thousand_lines_of_everything_stay_below_what_gmail_clips(key: str, locale: str) -> None:
    mail = mail_of(key, locale, data_of(kind_called(key), "Söhne & Co., 24", items=10_000))

    assert_whole(mail)
    assert len(mail.html.encode()) < CLIPPED_AT
    assert_composed(mail)


@pytest.mark.parametrize(("key", "locale"), DEFAULTS)
def test_the_longest_of_everything_stays_below_what_gmail_clips(key: str, locale: str) -> None:
    # Each of them becomes &amp; in the mail, five times its size.
    mail = mail_of(key, locale, data_of(kind_called(key), "&" * 500, items=60))

    assert len(mail.html.encode()) < CLIPPED_AT


@pytest.mark.parametrize("locale", DEFAULT_LOCALES)
def test_what_is_beyond_forty_lines_is_counted(locale: str) -> None:
    data = data_of(kind_called("order_confirmation"), "Cup", items=1_040)
    mail = mail_of("order_confirmation", locale, data)

    assert mail.html.count('class="line"') == 40
    assert {"en": "More items: 1,000", "de": "Weitere Artikel: 1.000"}[locale] in mail.text


@pytest.mark.parametrize(("key", "locale"), DEFAULTS)
def test_empty_lists_leave_no_hole(key: str, locale: str) -> None:
    mail = mail_of(key, locale, data_of(kind_called(key), "A text", items=0))

    assert_whole(mail)
    assert_composed(mail)


@pytest.mark.parametrize(("key", "locale"), DEFAULTS)
def test_what_is_optional_may_be_missing(key: str, locale: str) -> None:
    kind = kind_called(key)
    bare = mail_of(key, locale, data_of(kind, "A text", only_needed=True))

    assert_whole(bare)
    assert "None" not in bare.html
    assert not re.search(r" ,|,\.| \.|\(\)|^\W+$", _said(bare), re.M), _said(bare)
    assert_composed(bare)


@pytest.mark.parametrize(("key", "locale"), DEFAULTS)
def test_what_is_optional_and_empty_is_as_if_it_were_missing(key: str, locale: str) -> None:
    kind = kind_called(key)
    bare = data_of(kind, "A text", only_needed=True)
    optional = [variable for variable in kind.variables if variable.is_optional and "[]" not in variable.path]
    emptied = copy.deepcopy(bare)
    for variable in optional:
        put(emptied, variable.path, [] if variable.type is ValueType.LIST else "")

    assert mail_of(key, locale, emptied) == mail_of(key, locale, bare)


@pytest.mark.parametrize(("key", "locale"), DEFAULTS)
def test_what_is_needed_is_named_when_it_is_missing(key: str, locale: str) -> None:
    needed = {variable.path for variable in kind_called(key).variables if not variable.is_optional}

    with pytest.raises(DataMissing) as caught:
        mail_of(key, locale, {})

    assert {path for path, _ in caught.value.faults} == {path for path in needed if "[]" not in path}


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "https://", "//shop.example", "ftp://a.example"]
)
def test_a_link_leads_to_a_web_address_or_the_mail_is_refused(url: str) -> None:
    data = sample(kind_called("welcome"), "en")
    data["account"]["url"] = url

    with pytest.raises(DataMissing) as caught:
        mail_of("welcome", "en", data)

    assert [path for path, _ in caught.value.faults] == ["account.url"]


def test_an_address_to_answer_makes_no_link_of_another_kind() -> None:
    data = sample(kind_called("contact_form"), "en")
    data["contact"]["email"] = 'javascript:alert(1)"?bcc=all@shop.example'

    mail = mail_of("contact_form", "en", data)

    assert not [link for link in tree_of(mail.html).xpath("//a/@href") if "javascript" in link.partition(":")[0]]


# What a mail is -----------------------------------------------------------------------------------------------------


def assert_whole(mail: Rendered) -> None:
    """Valid HTML with tables that close, one line each of subject and preheader, a text to be read."""
    html5lib.HTMLParser(strict=True).parse(mail.html)
    assert mail.subject.strip()
    assert not re.search(r"[\r\n\u202a-\u202e\u2066-\u2069]", mail.subject + mail.preheader)
    assert len(_said(mail)) > 40
    assert not re.search(r"\b(?:class|role|style|width)=", mail.text)


def _said(mail: Rendered) -> str:
    """The text without the footer."""
    return mail.text.partition("\n-- \n")[0].strip()


def assert_composed(mail: Rendered) -> None:
    """The bytes that go out have one field each, and no line that a server refuses."""
    draft = Draft(
        message_id="1@shop.example",
        date=datetime(2027, 3, 4, 9, 12, tzinfo=UTC),
        subject=mail.subject,
        text=mail.text,
        html=mail.html,
        to=("Emma Clarke <emma.clarke@mail.example>",),
    )
    content = compose(draft, Sender("Harbour Goods", "orders@shop.example"))
    assert max(map(len, content.split(b"\r\n"))) <= 998
    message = message_from_bytes(content, policy=email_policy)
    for field in ("From", "To", "Subject", "Date", "Message-ID", "MIME-Version"):
        assert len(message.get_all(field)) == 1, field
    assert message["Subject"] == mail.subject
    body = message.get_body(("html",))
    assert body is not None
    assert body.get_content().replace("\r\n", "\n").rstrip() == mail.html.replace("\r\n", "\n").rstrip()
