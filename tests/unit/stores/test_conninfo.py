"""Which connection strings are read, and that no text shows a password."""

import logging
import traceback
from typing import Any

import pytest

from plugin_store import PluginConfigRepository
from plugin_store.errors import InvalidDatabaseURLError
from plugin_store.stores.connections import connect
from plugin_store.stores.conninfo import checked_conninfo, masked

SECRET = "s3cr3t-Pa55"

# What people write, and forget to percent-encode. {} is where the password stands.
UNREADABLE = [
    "postgresql://user:{}@x@host/db",
    "postgresql://user:x?{}@host/db",
    "postgresql://user:{}%zz@host/db",
    "postgresql://user:{}",
    "postgresql://host/db?password={}&unknown=1",
    "{}://host/db",
    "mysql://user:{}@host/db",
    "host=host password='{}",
    "host=host port={}",
    "host=host dbname=postgresql://me:{}@host/x",
    "{}",
    "postgresql://user:{}\udcff@host/db",
]
READABLE = [
    "",
    r"host=host password='it\'s @:/#%' dbname=db",
    "postgresql://user:p#s:s@host/db",
    "postgresql://user:p%40ss%2F%3F%25@host/db",
    "postgresql://host:5432,other:5433/db",
    "postgresql:///db?host=/tmp&user=me@corp",
    "postgres://%2Ftmp/db",
    "service=plugins",
]


@pytest.mark.parametrize("template", UNREADABLE, ids=ascii)
def test_unreadable_conninfo_is_refused_without_its_password(template: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for read in (checked_conninfo, connect, PluginConfigRepository.open):
        with pytest.raises(InvalidDatabaseURLError, match="postgresql://") as caught:
            read(template.format(SECRET))
        assert SECRET not in "".join(traceback.format_exception(caught.value)) + caplog.text


@pytest.mark.parametrize("conninfo", READABLE)
def test_conninfo_that_libpq_reads_is_unchanged(conninfo: str) -> None:
    assert checked_conninfo(conninfo) == conninfo


def test_conninfo_takes_libpqs_form() -> None:
    assert checked_conninfo("postgresql+psycopg://user@host/db") == "postgresql://user@host/db"
    assert checked_conninfo("\ufeffpostgres+psycopg:///db?host=/tmp \r\n") == "postgresql:///db?host=/tmp"


@pytest.mark.parametrize("nothing", [None, b"", 5432])
def test_conninfo_must_be_text(nothing: Any) -> None:
    with pytest.raises(InvalidDatabaseURLError, match=r"must be a str, not .*: is its environment variable set"):
        checked_conninfo(nothing)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see postgresql://u:p@ss:/s3cret@h/db and more", "see postgresql://***@h/db and more"),
        ("postgresql://host/db?password=s3cret&user=me", "postgresql://host/db?password=***&user=me"),
        ("host=h PASSWORD = 's3cret s3cret' dbname=d", "host=h PASSWORD = *** dbname=d"),
        (r"host=h password='s3\'cret s3cret' dbname=d", "host=h password=*** dbname=d"),
        ('no plugin "postgresql://u:pa\'s3cret@h/db"', 'no plugin "postgresql://***@h/db"'),
        (r"host=h password=a\ s'3cret dbname=d", "host=h password=*** dbname=d"),
        ("nothing to hide at http://host/db", "nothing to hide at http://host/db"),
        ("like postgresql://USER:PASSWORD@HOST/DATABASE", "like postgresql://USER:PASSWORD@HOST/DATABASE"),
    ],
)
def test_masked_text_shows_no_user_and_no_password(text: str, shown: str) -> None:
    assert masked(text) == shown
