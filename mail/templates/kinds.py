"""The kinds of mail a shop sends: what each is for, the names that its data has, a sample, and the default texts.

Frozen data; the texts lie in `defaults/<locale>/<kind>/` beside this file. No database, no network.

Source: product.md 7.
"""

from __future__ import annotations

import enum
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mail.templates import variables as names
from mail.templates.variables import ValueType, Variable, lines_of, needed, optional, totals_of

__all__ = [
    "DEFAULTS",
    "DEFAULT_LOCALES",
    "KINDS",
    "Group",
    "Kind",
    "Source",
    "ValueType",
    "Variable",
    "default_source",
    "find",
    "sample",
]


class Group(enum.StrEnum):
    TRANSACTIONAL = "transactional"
    NOTIFICATION = "notification"
    SYSTEM = "system"


@dataclass(frozen=True)
class Source:
    """What is written for one kind in one locale: Liquid in each; an empty `text` is derived from the HTML.

    `html` is the content between the layout's header and footer; a whole page (it begins with <!doctype or <html)
    goes out without the layout.
    """

    subject: str
    preheader: str
    html: str
    text: str = ""


@dataclass(frozen=True)
class Kind:
    key: str  # "order_confirmation": in the API, in URLs with hyphens
    name: str  # "Order confirmation"
    group: Group
    purpose: str  # one sentence: when it is sent and to whom
    variables: tuple[Variable, ...]


DEFAULT_LOCALES = ("en", "de")
DEFAULTS = Path(__file__).with_name("defaults")

ORDER_CONFIRMATION = Kind(
    "order_confirmation",
    "Order confirmation",
    Group.TRANSACTIONAL,
    "Goes to the customer as soon as an order is placed.",
    (
        *names.ORDER,
        names.PLACED_AT,
        *lines_of("order", "What was ordered", with_prices=True),
        *totals_of("order"),
        names.SHIPPING_METHOD,
        names.SHIPPING_ADDRESS,
        names.BILLING_ADDRESS,
        names.PAYMENT_METHOD,
        names.CUSTOMER_NOTE,
    ),
)

ORDER_SHIPPED = Kind(
    "order_shipped",
    "Order shipped",
    Group.TRANSACTIONAL,
    "Goes to the customer when a parcel leaves, once for each parcel.",
    (
        *names.ORDER,
        *lines_of("shipment", "What is in the parcel", with_prices=False, may_lack=True),
        optional("shipment.carrier", "Who carries it"),
        optional("shipment.tracking_number", "Number of the parcel at the carrier"),
        optional("shipment.tracking_url", "Page that follows the parcel", ValueType.URL),
        optional("shipment.expected_on", "Day on which it is expected", ValueType.DATE),
        names.SHIPPING_ADDRESS,
    ),
)

ORDER_DELIVERED = Kind(
    "order_delivered",
    "Order delivered",
    Group.TRANSACTIONAL,
    "Goes to the customer when the carrier reports that the parcel has arrived.",
    (
        *names.ORDER,
        *lines_of("shipment", "What is in the parcel", with_prices=False, may_lack=True),
        needed("shipment.delivered_at", "When it arrived", ValueType.DATE),
        optional("shipment.left_at", "Where it was left, like “with a neighbour”"),
        optional("shipment.carrier", "Who carried it"),
        optional("shipment.tracking_number", "Number of the parcel at the carrier"),
        names.SHIPPING_ADDRESS,
        optional("help_url", "Page for questions and returns", ValueType.URL),
    ),
)

ORDER_CANCELLED = Kind(
    "order_cancelled",
    "Order cancelled",
    Group.TRANSACTIONAL,
    "Goes to the customer when an order is cancelled, by either side.",
    (
        *names.ORDER,
        names.PLACED_AT,
        *lines_of("order", "What had been ordered", with_prices=True),
        *totals_of("order"),
        needed("cancellation.made_at", "When it was cancelled", ValueType.DATE),
        optional("cancellation.reason", "Why, in a sentence for the customer", longest=names.SENTENCES_MAX),
        optional("cancellation.refund", "What is paid back", ValueType.MONEY),
        names.PAYMENT_METHOD,
    ),
)

REFUND = Kind(
    "refund",
    "Refund",
    Group.TRANSACTIONAL,
    "Goes to the customer when money for an order is paid back, in whole or in part.",
    (
        *names.ORDER,
        needed("refund.amount", "What is paid back", ValueType.MONEY),
        optional("refund.currency", "Currency of the amounts; otherwise that of the store", ValueType.CURRENCY),
        needed("refund.made_at", "When it was paid back", ValueType.DATE),
        optional("refund.reason", "Why, in a sentence for the customer", longest=names.SENTENCES_MAX),
        optional("refund.method", "Where the money goes, like “Visa ending in 4242”"),
        optional("refund.days", "Working days until the money is there", ValueType.NUMBER),
        *lines_of("refund", "What it is for", with_prices=True, may_lack=True),
    ),
)

INVOICE = Kind(
    "invoice",
    "Invoice",
    Group.TRANSACTIONAL,
    "Goes to the customer when an invoice is made out, paid already or to be paid.",
    (
        names.FIRST_NAME,
        names.ORDER_NUMBER,
        needed("invoice.number", "Number of the invoice"),
        needed("invoice.issued_on", "Date of the invoice", ValueType.DATE),
        optional("invoice.is_paid", "It has been paid", ValueType.FLAG),
        optional("invoice.due_on", "Day by which it is to be paid", ValueType.DATE),
        optional("invoice.url", "Page that shows or downloads the invoice", ValueType.URL),
        optional("invoice.payment_url", "Page where it is paid", ValueType.URL),
        optional(
            "invoice.bank_details",
            "Account for a transfer: holder, IBAN and BIC in lines of their own",
            longest=names.SENTENCES_MAX,
        ),
        optional("invoice.reference", "What a transfer is to name"),
        *lines_of("invoice", "What is invoiced", with_prices=True, may_lack=True),
        *totals_of("invoice"),
        names.BILLING_ADDRESS,
    ),
)

WELCOME = Kind(
    "welcome",
    "Welcome",
    Group.NOTIFICATION,
    "Goes to a customer who has opened an account.",
    (
        names.FIRST_NAME,
        needed("customer.email", "Address of the account"),
        needed("account.url", "The customer’s account", ValueType.URL),
        optional("offer.text", "What newcomers get, in a sentence", longest=names.SENTENCES_MAX),
        optional("offer.code", "Code for the checkout"),
        optional("offer.ends_on", "Last day of the offer", ValueType.DATE),
    ),
)

PASSWORD_RESET = Kind(
    "password_reset",
    "Password reset",
    Group.NOTIFICATION,
    "Goes to a customer who has asked for a new password.",
    (
        names.FIRST_NAME,
        needed("customer.email", "Address of the account"),
        needed("reset.url", "Page that sets the new password; works once", ValueType.URL),
        needed("reset.minutes", "How long the link works, in minutes", ValueType.NUMBER),
        optional("reset.device", "Where the request came from, like “Firefox on Windows”"),
    ),
)

SIGN_IN_CODE = Kind(
    "sign_in_code",
    "Sign-in code",
    Group.NOTIFICATION,
    "Goes to a customer who is signing in, with the code to type.",
    (
        names.FIRST_NAME,
        needed("sign_in.code", "The code to type"),
        needed("sign_in.minutes", "How long the code works, in minutes", ValueType.NUMBER),
        optional("sign_in.device", "Where the request came from, like “Firefox on Windows”"),
    ),
)

EMAIL_CHANGED = Kind(
    "email_changed",
    "Email changed",
    Group.NOTIFICATION,
    "Goes to the old address when a customer’s email address is changed.",
    (
        names.FIRST_NAME,
        needed("change.old_email", "Address until now"),
        needed("change.new_email", "Address from now on"),
        needed("change.made_at", "When it was changed", ValueType.DATE),
        optional("change.undo_url", "Page that takes the change back", ValueType.URL),
    ),
)

BACK_IN_STOCK = Kind(
    "back_in_stock",
    "Back in stock",
    Group.NOTIFICATION,
    "Goes to a customer who asked to be told when a product is there again.",
    (
        names.FIRST_NAME,
        needed("product.name", "Name of the product"),
        needed("product.url", "Page of the product", ValueType.URL),
        optional("product.variant", "Size, colour or other choice"),
        optional("product.price", "Price of the product", ValueType.MONEY),
        optional("product.currency", "Currency of the price; otherwise that of the store", ValueType.CURRENCY),
        optional("product.image_url", "Picture of the product", ValueType.URL),
        optional("product.quantity", "How many there are", ValueType.NUMBER),
        names.UNSUBSCRIBE_URL,
    ),
)

REVIEW_REQUEST = Kind(
    "review_request",
    "Review request",
    Group.NOTIFICATION,
    "Goes to the customer some time after the order has arrived.",
    (
        names.FIRST_NAME,
        names.ORDER_NUMBER,
        names.PLACED_AT,
        needed("products", "What can be reviewed", ValueType.LIST),
        needed("products[].name", "Name of the product", longest=names.PRODUCT_MAX),
        needed("products[].review_url", "Page where this product is reviewed", ValueType.URL),
        optional("products[].variant", "Size, colour or other choice", longest=names.CHOICE_MAX),
        optional("products[].image_url", "Picture of the product, square", ValueType.URL),
        names.UNSUBSCRIBE_URL,
    ),
)

CONTACT_FORM = Kind(
    "contact_form",
    "Contact form",
    Group.NOTIFICATION,
    "Goes to the store’s own people when somebody has filled in the contact form.",
    (
        needed("contact.name", "Who writes"),
        needed("contact.email", "Address for the answer"),
        optional("contact.phone", "Telephone number"),
        optional("contact.subject", "What it is about"),
        optional("contact.order_number", "Order that it is about"),
        needed("contact.message", "What they wrote; line breaks are kept", longest=names.LETTER_MAX),
        needed("contact.sent_at", "When the form was sent", ValueType.DATE),
        optional("contact.page_url", "Page on which the form was", ValueType.URL),
    ),
)

LOW_STOCK = Kind(
    "low_stock",
    "Low stock",
    Group.SYSTEM,
    "Goes to the store’s own people when products are running out.",
    (
        needed("products", "What is running out", ValueType.LIST),
        needed("products[].name", "Name of the product", longest=names.PRODUCT_MAX),
        needed("products[].stock", "How many are left", ValueType.NUMBER),
        optional("products[].variant", "Size, colour or other choice", longest=names.CHOICE_MAX),
        optional("products[].sku", "Article number", longest=names.CHOICE_MAX),
        optional("products[].url", "Page of the product in the shop’s administration", ValueType.URL),
        optional("stock_url", "Page of the stock in the shop’s administration", ValueType.URL),
    ),
)

NEW_ORDER = Kind(
    "new_order",
    "New order",
    Group.SYSTEM,
    "Goes to the store’s own people when an order has come in.",
    (
        names.ORDER_NUMBER,
        names.PLACED_AT,
        optional("order.admin_url", "Page of the order in the shop’s administration", ValueType.URL),
        needed("customer.name", "Name of the customer"),
        optional("customer.email", "Email address of the customer"),
        optional("customer.phone", "Telephone number of the customer"),
        *lines_of("order", "What was ordered", with_prices=True),
        *totals_of("order"),
        names.SHIPPING_METHOD,
        names.SHIPPING_ADDRESS,
        names.BILLING_ADDRESS,
        names.PAYMENT_METHOD,
        names.CUSTOMER_NOTE,
    ),
)

KINDS: tuple[Kind, ...] = (
    ORDER_CONFIRMATION,
    ORDER_SHIPPED,
    ORDER_DELIVERED,
    ORDER_CANCELLED,
    REFUND,
    INVOICE,
    WELCOME,
    PASSWORD_RESET,
    SIGN_IN_CODE,
    EMAIL_CHANGED,
    BACK_IN_STOCK,
    REVIEW_REQUEST,
    CONTACT_FORM,
    LOW_STOCK,
    NEW_ORDER,
)
_BY_KEY = {kind.key: kind for kind in KINDS}


def find(key: str) -> Kind | None:
    """The kind with this key, or None."""
    return _BY_KEY.get(key)


def default_source(kind: Kind, locale: str) -> Source:
    """The texts that come with Storepost; the English ones for a locale without any."""
    return _read_source(kind.key, _locale_with_texts(locale))


def sample(kind: Kind, locale: str) -> dict[str, Any]:
    """Data such as an application sends for this kind, in the words of that locale; a fresh copy each time."""
    found: dict[str, Any] = json.loads(_read_sample(kind.key, _locale_with_texts(locale)))
    return found


def _locale_with_texts(locale: str) -> str:
    """The default locale that speaks for this one: "de" for "de-AT", "en" for what is not here."""
    language = locale.replace("_", "-").partition("-")[0].lower()
    return language if language in DEFAULT_LOCALES else DEFAULT_LOCALES[0]


@functools.cache
def _read_source(key: str, locale: str) -> Source:
    folder = DEFAULTS / locale / key
    text = folder / "text.liquid"  # most are derived from the HTML
    return Source(
        subject=_read(folder / "subject.liquid").strip(),
        preheader=_read(folder / "preheader.liquid").strip(),
        html=_read(folder / "html.liquid"),
        text=_read(text) if text.exists() else "",
    )


@functools.cache
def _read_sample(key: str, locale: str) -> str:
    return _read(DEFAULTS / locale / key / "sample.json")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
