"""What app.py binds for pages: made here, so that every view can import it without a cycle. Imports nothing of ours."""

from flask_wtf.csrf import CSRFProtect
from htmx_flask import Htmx

csrf = CSRFProtect()
htmx = Htmx()
