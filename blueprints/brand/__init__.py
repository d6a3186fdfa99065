"""How a store's mails look and what stands below them."""
