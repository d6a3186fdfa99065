"""A sealed column that rotation does not know would be lost with the key it was sealed with."""

from __future__ import annotations

import models
from extensions import Base
from mail.sealed_columns import SEALED_COLUMNS

# Each check value belongs to its key, and goes with it.
CHECK_VALUES = ("keyring_checks", "sealed")


def test_every_sealed_column_of_the_models_is_in_the_registry() -> None:
    assert models  # imported for what it registers
    found = {
        (table.name, column.name)
        for table in Base.metadata.tables.values()
        for column in table.columns
        if column.name == "sealed" or column.name.endswith("_sealed")
    }
    assert found - {CHECK_VALUES} == {(one.table.name, one.name) for one in SEALED_COLUMNS}
    assert CHECK_VALUES in found


def test_every_sealed_column_is_bound_to_a_uid_that_is_unique() -> None:
    for one in SEALED_COLUMNS:
        assert (one.uid.name, one.uid.unique, one.uid.nullable) == ("uid", True, False), one.label
        assert (one.via is None) == (one.uid.table is one.table), one.label
        assert one.key.name in one.table.columns, one.label
