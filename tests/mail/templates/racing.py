"""Two people who press Save at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable

from flask import Flask

from extensions import db
from mail.drafts import StaleSave
from models import Store

Save = Callable[[Store], object]


def saved_at_once(app: Flask, store: Store, *saves: Save) -> list[str]:
    """What became of each, "saved" or "stale", in alphabetical order."""
    ready, answers, store_id = threading.Barrier(len(saves), timeout=20), [], store.id
    db.session.rollback()

    def press(save: Save) -> None:
        with app.app_context():
            ready.wait()
            try:
                save(db.session.get_one(Store, store_id))
                db.session.commit()
                answers.append("saved")
            except StaleSave:
                answers.append("stale")
            finally:
                db.session.remove()

    threads = [threading.Thread(target=press, args=(save,)) for save in saves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return sorted(answers)
