"""A practice provider: OAuth 2.0 authorization server, SMTP server and inbox for development and tests.

Nothing of the application is imported here, and the application never imports this package on its own.
"""

from sandbox.serve import Sandbox, serve

__all__ = ["Sandbox", "serve"]
