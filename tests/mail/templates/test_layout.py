"""The page around every mail and the parts that a shop's people may use in it."""

from __future__ import annotations

import colorsys
import dataclasses
import re

import html5lib
import pytest

from mail.templates import liquid
from mail.templates.kinds import DEFAULTS, Source, sample
from mail.templates.rendering import Look, Rendered, ink_on, render
from tests.mail.templates.shop import LOOKS, kind_called, mail_of, tree_of

PARTS = sorted(path.stem for path in (DEFAULTS / "parts").glob("*.liquid"))
WELCOME = kind_called("welcome")


def of(html: str, look: Look = LOOKS["en"], locale: str = "en", preheader: str = "What it is about") -> Rendered:
    """A mail with this content."""
    return render(WELCOME, Source("A subject", preheader, html), sample(WELCOME, "en"), look, locale)


def with_(**changes: object) -> Look:
    return dataclasses.replace(LOOKS["en"], **changes)  # type: ignore[arg-type]


# Head ---------------------------------------------------------------------------------------------------------------


def test_language_direction_and_both_colour_schemes_are_declared() -> None:
    tree = tree_of(mail_of("welcome", "de", sample(WELCOME, "de")).html)

    assert (tree.get("lang"), tree.get("dir")) == ("de", "ltr")
    assert tree.xpath("//meta[@name='color-scheme']/@content") == ["light dark"]
    assert tree.xpath("//title/text()") == ["Willkommen bei Hafenwaren"]


def test_nothing_is_loaded_but_pictures() -> None:
    html = mail_of("order_confirmation", "en", sample(kind_called("order_confirmation"), "en")).html

    assert not re.search(r"<link|<script|<iframe|@import|@font-face|url\(|srcset|<base|<form", html)


def test_styles_are_in_the_elements_and_only_rules_for_some_clients_are_kept() -> None:
    html = of("<p class='small'>Small print</p>").html
    shown = re.sub(r"<!--.*?-->", "", html, flags=re.S)
    kept = "\n".join(re.findall(r"<style[^>]*>(.*?)</style>", shown, re.S))

    assert "font-size: 14px" in tree_of(html).xpath("//p[@class='small']/@style")[0]
    outside = re.sub(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*\s*\}", "", kept)
    assert all(rule.strip().startswith((":root", "[data-ogs")) for rule in re.findall(r"[^{}]+\{[^}]*\}", outside))
    assert re.findall(r"@media \(([^)]*)\)", kept) == ["max-width:620px", "prefers-color-scheme:dark"]


def test_the_preheader_comes_first_and_nothing_leaks_behind_it() -> None:
    tree = tree_of(of("<p>Text of the mail</p>").html)
    said = "".join(tree.xpath("//body")[0].itertext())

    assert said.lstrip().startswith("What it is about")
    filler = said.partition("What it is about")[2].partition("Text of the mail")[0]
    assert len(filler) > 180
    assert "display: none" in tree.xpath("//div[@class='preheader']/@style")[0]
    assert not tree_of(of("<p>Text</p>", preheader="").html).xpath("//div[@class='preheader']")


def test_every_table_is_for_layout_and_says_so() -> None:
    for key in ("order_confirmation", "contact_form", "low_stock"):
        tree = tree_of(mail_of(key, "en", sample(kind_called(key), "en")).html)
        assert {table.get("role") for table in tree.iter("table")} == {"presentation"}


# Header and footer --------------------------------------------------------------------------------------------------


def test_the_logo_stands_for_the_name_and_the_name_for_the_logo() -> None:
    (logo,) = tree_of(of("<p>Text</p>").html).xpath("//td[contains(@class, 'header')]//img")

    assert (logo.get("alt"), logo.get("width")) == ("Harbour Goods", "168")
    assert "font-weight: 600" in logo.get("style")
    without = tree_of(of("<p>Text</p>", with_(logo_url="")).html).xpath("//td[contains(@class, 'header')]")[0]
    assert "".join(without.itertext()).strip() == "Harbour Goods"


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:image/png;base64,AA==", "file:///etc/passwd"])
def test_a_logo_that_is_no_web_address_is_no_logo(url: str) -> None:
    tree = tree_of(of("<p>Text</p>", with_(logo_url=url, website_url=url)).html)

    assert not tree.xpath("//img")
    assert not [link for link in tree.xpath("//a/@href") if not link.startswith("mailto:")]


def test_the_footer_says_who_writes() -> None:
    footer = tree_of(of("<p>Text</p>").html).xpath("//td[@class='footer']")[0]
    said = re.sub(r"\s+", " ", " ".join(footer.itertext()))

    for words in ("Harbour Goods Ltd", "9 Custom House Quay", "shop.example", "help@shop.example", "VAT IE0000000X"):
        assert words in said
    assert footer.xpath(".//a/@href") == ["https://shop.example/", "mailto:help@shop.example"]


def test_a_shop_that_has_said_nothing_yet_has_a_whole_page() -> None:
    html = of("<p>Text</p>", Look(name="Acme Store")).html

    html5lib.HTMLParser(strict=True).parse(html)
    footer = tree_of(html).xpath("//td[@class='footer']")[0]
    assert " ".join(" ".join(footer.itertext()).split()) == "Acme Store"


def test_what_a_shop_says_of_itself_stays_text() -> None:
    evil = "<script>alert(1)</script>\"' --> {{ store.name }}"
    html = of("<p>Text</p>", with_(name=evil, address=(evil,) * 12, legal=(evil,) * 12, support_email=evil)).html

    html5lib.HTMLParser(strict=True).parse(html)
    assert not tree_of(html).xpath("//script")


def test_right_to_left_texts_have_their_amounts_at_the_left() -> None:
    tree = tree_of(
        mail_of("order_confirmation", "ar", sample(kind_called("order_confirmation"), "en"), LOOKS["en"]).html
    )

    assert tree.get("dir") == "rtl"
    prices = tree.xpath("//td[@class='price']/@style") + tree.xpath("//td[contains(@class, 'amount-value')]/@style")
    assert len(prices) == 8
    assert all("text-align: left" in style for style in prices)


# Colours ------------------------------------------------------------------------------------------------------------


def test_words_on_any_colour_can_be_read() -> None:
    steps = range(0, 256, 15)
    colours = [f"#{red:02x}{green:02x}{blue:02x}" for red in steps for green in steps for blue in steps]

    worst = min(contrast(colour, ink_on(colour)) for colour in colours)

    assert worst >= 4.5


@pytest.mark.parametrize("hue", range(0, 360, 45))
def test_button_and_header_are_written_in_their_ink(hue: int) -> None:
    red, green, blue = colorsys.hls_to_rgb(hue / 360, 0.45, 0.9)
    colour = f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
    html = of("{% render 'button', label: 'Go', url: account.url %}", with_(accent=colour, header_color=colour)).html
    tree = tree_of(html)

    (button,) = tree.xpath("//a[@class='button-link']/@style")
    assert f"background-color: {colour}" in button
    assert f";color: {ink_on(colour)}" in button
    assert f'fillcolor="{colour}"' in html
    assert f"color:{ink_on(colour)}" in tree.xpath("//td[@class='header']/@style")[0].replace(" ", "")


def contrast(one: str, other: str) -> float:
    """Source: WCAG 2.2, contrast ratio."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


# Parts --------------------------------------------------------------------------------------------------------------


def test_there_are_the_parts_that_the_editor_offers() -> None:
    assert tuple(PARTS) == liquid.part_names()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_says_what_it_takes(part: str) -> None:
    source = (DEFAULTS / "parts" / f"{part}.liquid").read_text(encoding="utf-8")
    comment = re.match(r"\{%- comment -%\}\n(.+?)\{%- endcomment -%\}", source, re.S)

    assert comment
    for name in liquid.part_called(part).parameters:
        assert re.search(rf"\b{name}\b", comment[1]), name


@pytest.mark.parametrize(
    "use",
    [
        "{% render 'button', label: 'Go', url: offer.code %}",
        "{% render 'button', label: 'Go' %}",
        "{% render 'detail', label: 'Code', value: offer.code %}",
        "{% render 'amount', label: 'Sum', amount: offer.code %}",
        "{% render 'code', code: offer.code %}",
        "{% render 'notice', title: 'Title', text: offer.code %}",
        "{% render 'picture', image_url: offer.code, alt: 'A cup' %}",
        "{% render 'order_lines', lines: offer.code %}",
    ],
)
def test_a_part_without_its_value_is_not_there(use: str) -> None:
    data = sample(WELCOME, "en")
    del data["offer"]
    without = render(WELCOME, Source("S", "P", "<p>Text</p>"), data, LOOKS["en"], "en")

    with_part = render(WELCOME, Source("S", "P", f"<p>Text</p>{use}"), data, LOOKS["en"], "en")

    assert with_part == without


def test_outlook_on_windows_gets_a_button_of_its_own() -> None:
    html = of("{% render 'button', label: 'Look & buy -->', url: account.url %}").html
    (shape,) = re.findall(r"<!--\[if mso\]>(<v:roundrect.*?</v:roundrect>)<!\[endif\]-->", html, re.S)

    assert 'href="https://shop.example/account"' in shape
    assert "Look &amp; buy --&gt;" in shape
    assert int(re.findall(r"width:(\d+)px", shape)[0]) >= 160


def test_tables_for_outlook_alone_close() -> None:
    comments = "".join(re.findall(r"<!--\[if mso\]>(.*?)<!\[endif\]-->", of("<p>Text</p>").html, re.S))

    for tag in ("table", "tr", "td"):
        assert comments.count(f"<{tag}") == comments.count(f"</{tag}>"), tag


def test_a_store_may_use_the_parts_in_its_own_words() -> None:
    mail = of(
        "<h1>Bonjour</h1>{% render 'detail', label: 'Compte', value: customer.email %}"
        "{% render 'amount', label: 'Remise', amount: 12.5, currency: 'CHF', sign: '−' %}",
        locale="fr",
    )

    assert "Compte: emma.clarke@mail.example" in mail.text
    assert "Remise: −12,50" in mail.text.replace("\xa0", " ")
