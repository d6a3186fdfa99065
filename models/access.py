"""Who may do what: every object is looked up through "stores this person may act on".

Today there is one role, the platform administrator, who may do everything; roles per store join here.
"""

from __future__ import annotations

import enum

from sqlalchemy import Select, false, select

from models.store import Store
from models.user import User


class Permission(enum.StrEnum):
    VIEW_STORE = "view_store"
    CREATE_STORE = "create_store"
    EDIT_STORE = "edit_store"
    DELETE_STORE = "delete_store"
    COPY_STORE = "copy_store"
    EDIT_SETTINGS = "edit_settings"
    TEST_SETTINGS = "test_settings"
    CONNECT = "connect"
    VIEW_MESSAGES = "view_messages"
    MANAGE_MESSAGES = "manage_messages"
    MANAGE_API_KEYS = "manage_api_keys"
    VIEW_TEMPLATES = "view_templates"
    EDIT_TEMPLATES = "edit_templates"


def may(user: User, permission: Permission, store: Store | None = None) -> bool:
    """Whether this person has the permission, for the store or for the installation."""
    return bool(user.active) and user.is_platform_admin


def stores_for(user: User) -> Select[Store]:
    """The stores this person may see, as a query to narrow further."""
    if may(user, Permission.VIEW_STORE):
        return select(Store)
    return select(Store).where(false())
