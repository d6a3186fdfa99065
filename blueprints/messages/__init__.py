"""A store's Messages: what it handed in and what became of it."""
