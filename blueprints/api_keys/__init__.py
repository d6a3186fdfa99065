"""A store's API keys."""
