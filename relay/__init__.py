"""The SMTP listener for applications: they sign in with a store's code and an API key, and hand in mail."""

from relay.server import CannotStart, Relay, run

__all__ = ["CannotStart", "Relay", "run"]
