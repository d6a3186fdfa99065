"""The names in the data of a mail: how one is described, and those that several kinds share."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class ValueType(enum.StrEnum):
    TEXT = "text"
    NUMBER = "number"
    MONEY = "money"  # a number, or a text like "12.50"; the filter `money` shows it
    DATE = "date"  # RFC 3339, like "2027-01-31" or "2027-01-31T09:00:00Z"; the filter `date` shows it
    URL = "url"  # https: or http:, nothing else
    CURRENCY = "currency"  # ISO 4217, like "EUR"
    FLAG = "flag"
    LIST = "list"  # of objects; the names within it stand as "order.lines[].name"
    OBJECT = "object"


WORDS_MAX = 150  # of a name or a number
PRODUCT_MAX = 80  # of a product's name in a list, of which forty are shown
CHOICE_MAX = 50
SENTENCES_MAX = 400  # of an address, a reason, a note
LETTER_MAX = 10_000  # of what somebody wrote to the store


@dataclass(frozen=True)
class Variable:
    """One name that a kind's data has.

    Attributes:
        path: with dots, and "[]" behind a list: "order.lines[].name".
        meaning: a few words for who writes a template.
        is_optional: the application may leave it out, or send null or an empty text; it is then empty, and
            `{% if %}` tells. Within a list it goes for each entry.
        longest: characters of a text that go into a mail; the rest is cut off, and "…" tells. A name without end is
            no reason to keep an order's confirmation back, and with all of it mailboxes would clip the mail.
    """

    path: str
    meaning: str
    type: ValueType = ValueType.TEXT
    is_optional: bool = False
    longest: int = WORDS_MAX


def needed(path: str, meaning: str, type_: ValueType = ValueType.TEXT, longest: int = WORDS_MAX) -> Variable:
    return Variable(path, meaning, type_, longest=longest)


def optional(path: str, meaning: str, type_: ValueType = ValueType.TEXT, longest: int = WORDS_MAX) -> Variable:
    return Variable(path, meaning, type_, is_optional=True, longest=longest)


FIRST_NAME = optional("customer.first_name", "First name of the customer")
ORDER_NUMBER = needed("order.number", "Number of the order, as the customer knows it")
ORDER_URL = optional("order.url", "Page of the order in the customer’s account", ValueType.URL)
PLACED_AT = needed("order.placed_at", "When the order was placed", ValueType.DATE)
UNSUBSCRIBE_URL = optional("unsubscribe_url", "Page where the customer stops mails of this kind", ValueType.URL)

# Every mail about an order starts with these.
ORDER = (FIRST_NAME, ORDER_NUMBER, ORDER_URL)


def lines_of(owner: str, meaning: str, *, with_prices: bool, may_lack: bool = False) -> tuple[Variable, ...]:
    """The list of products at `owner`.lines, as the part order_lines shows it; the list may be empty."""
    prices = (optional(f"{owner}.lines[].total", "Price of the line: quantity times price", ValueType.MONEY),)
    return (
        Variable(f"{owner}.lines", meaning, ValueType.LIST, is_optional=may_lack),
        needed(f"{owner}.lines[].name", "Name of the product", longest=PRODUCT_MAX),
        needed(f"{owner}.lines[].quantity", "How many", ValueType.NUMBER),
        optional(f"{owner}.lines[].variant", "Size, colour or other choice", longest=CHOICE_MAX),
        *(prices if with_prices else ()),
        optional(f"{owner}.lines[].image_url", "Picture of the product, square", ValueType.URL),
    )


def totals_of(owner: str) -> tuple[Variable, ...]:
    """The sums below a list of products."""
    return (
        optional(f"{owner}.subtotal", "Sum of the lines", ValueType.MONEY),
        optional(f"{owner}.discount", "What a discount takes off, as a positive amount", ValueType.MONEY),
        optional(f"{owner}.shipping", "Price of shipping; 0 when it is free", ValueType.MONEY),
        optional(f"{owner}.tax", "Tax that is added to the prices", ValueType.MONEY),
        optional(f"{owner}.tax_included", "Tax that the total contains already", ValueType.MONEY),
        needed(f"{owner}.total", "What the customer pays in all", ValueType.MONEY),
        optional(f"{owner}.currency", "Currency of the amounts; otherwise that of the store", ValueType.CURRENCY),
    )


SHIPPING_ADDRESS = optional(
    "order.shipping_address", "Where it goes: name, street and town in lines of their own", longest=SENTENCES_MAX
)
BILLING_ADDRESS = optional(
    "order.billing_address", "Who pays: name, street and town in lines of their own", longest=SENTENCES_MAX
)
SHIPPING_METHOD = optional("order.shipping_method", "How it is shipped, as the customer chose it")
PAYMENT_METHOD = optional("order.payment_method", "How it is paid, like “Visa ending in 4242”")
CUSTOMER_NOTE = optional("order.note", "What the customer wrote with the order", longest=SENTENCES_MAX)
