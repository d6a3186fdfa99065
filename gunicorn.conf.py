"""How the web server runs. Everything can be overridden on gunicorn's command line."""

import contextlib

from gunicorn.glogging import Logger

import drivers
import heap
from config import ConfigError, load  # every name here is taken for a setting, and `config` is one

# What is wrong with the settings, the application says when it starts.
with contextlib.suppress(ConfigError):
    drivers.leave_out_unused(load())


class OwnWords(Logger):
    """The server's own words, and nothing about requests.

    The OAuth callback carries an authorization code in its query string: no line of any log may hold one. The server
    writes down each request as soon as it has a `logconfig_dict`, even without an `accesslog`, and that nobody reads it
    does not make it free.
    """

    def access(self, resp: object, req: object, environ: object, request_time: object) -> None:
        pass


bind = "127.0.0.1:8025"
worker_class = "gthread"
workers = 2
threads = 4
timeout = 60
graceful_timeout = 25
keepalive = 15
logger_class = OwnWords
accesslog = None
# Bounded request lines and headers; the longest line is the callback's.
limit_request_line = 8190
limit_request_field_size = 16380
# No side door: it is managed by signals.
control_socket_disable = True
# The server's own words in the same form as the application's: one line of JSON per event, without secrets.
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "security.redact.JSONFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
    "root": {"level": "INFO", "handlers": ["stderr"]},
    "loggers": {"gunicorn.error": {"level": "INFO", "handlers": ["stderr"], "propagate": False}},
}


def post_fork(server: object, worker: object) -> None:
    """Keep large pieces of memory out of what each thread of a worker process holds on to."""
    heap.keep_small()
