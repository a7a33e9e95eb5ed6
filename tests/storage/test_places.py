"""Places as text: one spelling, children before the query, no secrets."""

import pytest

from hat_ray.errors import HatRayError
from hat_ray.storage import places
from hat_ray.storage.folder import Folder

SPELLINGS = {
    "file:///x/a%20b": ("/x/a b", "/x/a b/c d"),
    "FILE:///x/": ("/x", "/x/c d"),
    "file:/x": ("/x", "/x/c d"),
    "file://localhost/x%3Fa=b": ("/x?a=b", "/x?a=b/c d"),
    "/x?a=b": ("/x?a=b", "/x?a=b/c d"),
    "/x/a%20b": ("/x/a%20b", "/x/a%20b/c d"),
    "S3://b/x/?endpoint_override=h:1&scheme=http": (
        "s3://b/x?endpoint_override=h:1&scheme=http",
        "s3://b/x/c%20d?endpoint_override=h:1&scheme=http",
    ),
    "s3://b": ("s3://b", "s3://b/c%20d"),
    "s3://b/?region=r": ("s3://b?region=r", "s3://b/c%20d?region=r"),
    "s3://b/a b%20c//": ("s3://b/a%20b%20c", "s3://b/a%20b%20c/c%20d"),
    "s3://b/ü": ("s3://b/%C3%BC", "s3://b/%C3%BC/c%20d"),
    "gs://b/q?project_id=p": ("gs://b/q?project_id=p", "gs://b/q/c%20d?project_id=p"),
    "gs://anonymous@b/q": ("gs://anonymous@b/q", "gs://anonymous@b/q/c%20d"),
    "abfs://c@a.dfs.core.windows.net/x": (
        "abfs://c@a.dfs.core.windows.net/x",
        "abfs://c@a.dfs.core.windows.net/x/c%20d",
    ),
    "hdfs://h:9000/x@y": ("hdfs://h:9000/x@y", "hdfs://h:9000/x@y/c%20d"),
    "hdfs:///x": ("hdfs:///x", "hdfs:///x/c%20d"),
}


@pytest.mark.parametrize(("place", "expected"), SPELLINGS.items())
def test_a_place_has_one_spelling_and_its_children_stand_before_the_query(place: str, expected: tuple[str, str]):
    folder = Folder.at(place)
    assert (folder.uri, folder.child("c d").uri) == expected
    assert Folder.at(folder.uri) == folder
    assert folder.child("c d").name == "c d"
    assert folder.child("c d/e#%?") == folder.child("c d", "e#%?")
    assert folder.child("e#%?").name == "e#%?"


@pytest.mark.parametrize(
    ("place", "rule"),
    {
        "file:///x/run?a=b": "has no query",
        "file://host/x": "names no other machine",
        "file:///C:/x": "Windows",
        "C:\\x": "Windows",
        "c:/x": "Windows",
        "s3://": "names no bucket",
        "S3:///x": "names no bucket",
        "gs://?project_id=p": "names no bucket",
        "hdfs://": "names no folder",
        "s3:b/x": "two slashes",
        "s3:/b/x": "two slashes",
        "s3://b/a//b": "plain name",
        "s3://b/../x": "plain name",
        "s3://b/%2E%2e/x": "plain name",
        "s3://b/a%2fb": "plain name",
        "s3://b/a%00b": "plain name",
        "s3://b/100%": "two hex digits",
        "s3://b/x#f": "%23",
        "~nobody-of-this-name/x": "write the folder out",
        "": "neither empty",
    }.items(),
)
def test_a_place_without_a_clear_meaning_is_refused_in_one_line(place: str, rule: str):
    with pytest.raises(HatRayError, match=rule) as caught:
        Folder.at(place)
    assert "\n" not in str(caught.value)


SECRETS = [
    "s3://AKIAKEY:hUsHhUsH@b/x",
    "s3://AKIAKEY:hUsH/HuSh+hUsH@b/x",
    "s3://hUsH@b/x",
    "s3://b/x?access_key=hUsH",
    "s3://b/x?region=r&secret_key=hUsH&scheme=http",
    "s3://b/x?session_token=hUsH",
    "s3://b/x?X-Amz-Signature=hUsH",
    "s3://b/x?x%2damz%2dcredential=hUsH",
    "s3://b/x?endpoint_override=http://me:hUsH@h:1",
    "gs://b/x?sig=hUsH",
    "abfs://c:hUsH@a.dfs.core.windows.net/x",
    "abfss://a.blob.core.windows.net/c/x?sas_token=hUsH",
    "hdfs://me:hUsH@h:9000/x",
    "https://h/x?token=hUsH",
]


@pytest.mark.parametrize("place", SECRETS)
def test_a_place_that_holds_a_secret_is_refused_and_never_shown(place: str):
    with pytest.raises(HatRayError, match="must hold no user, key") as caught:
        Folder.at(place)
    text = f"cannot use {place}: or '{place}', nor {place}"
    for shown in (str(caught.value), places.redacted(text), str(Folder(place)), repr(Folder(place))):
        assert "hush" not in shown.lower()
        assert "AKIAKEY" not in shown


@pytest.mark.parametrize("place", [*SPELLINGS, "http://localhost:8000/translate", "see https://a.b/c?page=2&x=y@z"])
def test_what_is_no_secret_is_shown_as_it_is(place: str):
    expected = place.replace("x=y@z", "x=***")
    assert places.redacted(place) == expected
