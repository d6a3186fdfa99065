"""The tasks of Celery: a mail that Flask-Mailman sends, a row that is kept (see rows.py), and nothing.

Settings by environment: BENCH_BROKER is Redis's URL, BENCH_PORT the mail server's port, BENCH_DONE a socket that is
told of each task done, BENCH_ROWS the database of the rows.
"""

import functools
import os
import socket

from celery import Celery
from flask import Flask
from flask_mailman import EmailMessage, Mail
from rows import Rows

celery = Celery("celery_tasks", broker=os.environ["BENCH_BROKER"])
celery.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
flask_app = Flask(__name__)
flask_app.config.update(MAIL_SERVER="127.0.0.1", MAIL_PORT=int(os.environ["BENCH_PORT"]), MAIL_TIMEOUT=60)
Mail(flask_app)


@celery.task
def send(subject, body, sender, recipient):
    with flask_app.app_context():
        EmailMessage(subject, body, sender, [recipient]).send()
    tell()


@celery.task
def keep_row(number):
    if rows().take(number):
        rows().finish(number)
    tell()


@celery.task
def do_nothing():
    tell()


# Both are made at first use, so that every process of the pool has its own. ----------------------------------------


@functools.cache
def rows():
    return Rows(os.environ["BENCH_ROWS"])


@functools.cache
def bell():
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    connected.connect(os.environ["BENCH_DONE"])
    return connected


def tell():
    bell().send(b".")
