"""A shop's looks, data such as nobody expects, and what tests ask of a mail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lxml import html as lxml_html

from mail.templates.kinds import DEFAULT_LOCALES, KINDS, Kind, ValueType, default_source, find
from mail.templates.rendering import Look, Rendered, render

LOOKS = {
    "en": Look(
        name="Harbour Goods",
        logo_url="https://shop.example/images/logo.png",
        logo_width=168,
        website_url="https://shop.example/",
        support_email="help@shop.example",
        accent="#1f5c4d",
        address=("Harbour Goods Ltd", "9 Custom House Quay", "Dublin D01 F6X2", "Ireland"),
        legal=("Registered in Ireland, no. 000000", "VAT IE0000000X"),
        locale="en-IE",
        time_zone="Europe/Dublin",
    ),
    "de": Look(
        name="Hafenwaren",
        website_url="https://shop.example/",
        support_email="hilfe@shop.example",
        header_color="#16324f",
        address=("Hafenwaren GmbH", "Speicherstraße 9", "20457 Hamburg"),
        legal=("Amtsgericht Hamburg, HRB 000000 · USt-IdNr. DE000000000", "Geschäftsführung: Karin Petersen"),
        locale="de-DE",
        time_zone="Europe/Berlin",
    ),
}

# Each default there is, as parameters of a test.
DEFAULTS = [(kind.key, locale) for kind in KINDS for locale in DEFAULT_LOCALES]

HOSTILE_TEXTS = {
    "html": "</td></table><script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp; <!-- --> ]]>",
    "liquid": "{{ store.name }}{% for i in (1..9) %}{% render 'button' %}{% endfor %}{% raw %}",
    "rtl": "\u202e\u2067שלום \u200fمرحبا‏ \u202dabc",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈🎉" * 30,
    "long word": "Donaudampfschifffahrt" * 1_000,
    "10,000 lines": "A\n" * 10_000,
    "ampersands": "&" * 20_000,
    "conditional comment": "--><![endif]--><!--[if mso]><b>",
}
OTHER = {
    ValueType.NUMBER: 12_345_678,
    ValueType.MONEY: "999999999.99",
    ValueType.DATE: "2027-03-04T09:12:00Z",
    ValueType.URL: "https://shop.example/?a=1&b=%22%3E%3Cscript%3E",
    ValueType.FLAG: False,
}


def kind_called(key: str) -> Kind:
    kind = find(key)
    assert kind is not None
    return kind


def data_of(kind: Kind, text: str, *, items: int = 2, only_needed: bool = False) -> dict[str, Any]:
    """Data of the kind's shape in which every text is this one and every list has so many items."""
    data: dict[str, Any] = {}
    within: dict[str, dict[str, Any]] = {}
    for variable in kind.variables:
        if only_needed and variable.is_optional:
            continue
        if variable.type is ValueType.LIST:
            within[f"{variable.path}[]"] = {}
            continue
        value = "USD" if variable.path.endswith("currency") else OTHER.get(variable.type, text)
        if variable.type is ValueType.URL and items < 100:
            value += "&c=" + "x" * 140  # the longest that a picture's may be
        owner, _, name = variable.path.rpartition(".")
        if owner in within:
            within[owner][name] = value
        elif not owner.endswith("[]"):  # else of a list that is left out
            put(data, variable.path, value)
    for path, item in within.items():
        put(data, path.removesuffix("[]"), [dict(item) for _ in range(items)])
    return data


def put(data: dict[str, Any], path: str, value: Any) -> None:
    *owners, name = path.split(".")
    for owner in owners:
        data = data.setdefault(owner, {})
    data[name] = value


def mail_of(key: str, locale: str, data: dict[str, Any], look: Look | None = None) -> Rendered:
    """The default of this kind, rendered."""
    kind = kind_called(key)
    return render(kind, default_source(kind, locale), data, look or LOOKS[locale], locale)


def names_in(value: Any, path: str = "") -> Iterator[str]:
    """The paths of all leaves and lists in data, as the catalogue writes them."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from names_in(part, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        yield path
        for item in value:
            yield from names_in(item, f"{path}[]")
    else:
        yield path


def tree_of(html: str) -> Any:
    return lxml_html.document_fromstring(html.encode())
