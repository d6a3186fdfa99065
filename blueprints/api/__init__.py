"""The HTTP API: messages come in from other programs, and other programs see what became of them."""
