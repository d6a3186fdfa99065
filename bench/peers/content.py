"""The one message that all outboxes and queues are given: plain text, 5 KB on the wire.

Imports nothing, because the peers read it in an environment of their own.
"""

SENDER = "orders@shop.example"
RECIPIENT = "customer@mail.example"
SUBJECT = "Your order 1001 is on its way"
LINE = "A line of an order that says what was bought, how many and for how much.\n"
TEXT = LINE * 64 + "The end.\n"
