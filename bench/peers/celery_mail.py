"""A task of Celery for each message, Redis as its broker, a worker of its own with so many processes.

    python celery_mail.py --broker redis://… [--workers N] [--port PORT] [--rows DATABASE] --directory DIRECTORY

Lines on the input as for huey_mail.py. The worker is up all the time; `deliver` makes it consume the queue, `rest`
makes it stop that, so that no start of a process is measured.
"""

import argparse
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import content
from talk import Done, questions, say

HERE = Path(__file__).resolve().parent


def listen(path, done):
    """Count what the processes of the worker tell of."""
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bell.bind(path)

    def count():
        while True:
            bell.recv(1)
            done.one()

    threading.Thread(target=count, daemon=True).start()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--broker", required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--port", default="25")
    parser.add_argument("--directory", required=True)
    parser.add_argument("--rows", default="")
    arguments = parser.parse_args()
    os.environ["BENCH_BROKER"], os.environ["BENCH_PORT"] = arguments.broker, arguments.port
    os.environ["BENCH_ROWS"] = arguments.rows
    os.environ["BENCH_DONE"] = str(Path(arguments.directory) / "done")
    done = Done()
    listen(os.environ["BENCH_DONE"], done)
    from celery_tasks import celery, do_nothing, keep_row, rows, send

    command = [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "--loglevel", "ERROR", "-Q", "idle"]
    command += ["--concurrency", str(arguments.workers), "--without-gossip", "--without-mingle"]
    worker = subprocess.Popen(
        command,
        cwd=HERE,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    try:
        await_worker(celery)
        say(ready="celery")
        for verb, values in questions():
            if verb == "queue":
                for _ in range(int(values[0])):
                    mail = (content.SUBJECT, content.TEXT, content.SENDER, content.RECIPIENT)
                    send.apply_async(mail, queue="mail")
            elif verb == "queue-rows":
                for _ in range(int(values[0])):
                    keep_row.apply_async((rows().add(),), queue="mail")
            elif verb == "queue-empty":
                for _ in range(int(values[0])):
                    do_nothing.apply_async(queue="mail")
            elif verb == "deliver":
                done.begin()
                celery.control.add_consumer("mail")
            elif verb == "wait":
                done.wait(*values)
            elif verb == "rest":
                celery.control.cancel_consumer("mail", reply=True)
            say(done=verb, **done.facts())
    finally:
        worker.terminate()
        worker.wait()


def await_worker(celery):
    ends = time.monotonic() + 30
    while not celery.control.ping(timeout=0.5):
        if time.monotonic() > ends:
            raise SystemExit("the worker of Celery did not start")


if __name__ == "__main__":
    main()
