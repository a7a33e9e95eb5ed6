"""Places as text: local paths, and URIs such as `s3://team/runs?endpoint_override=...`.

Decisions
- A place has one spelling: the scheme in lower case, no slash at the end, everything escaped that a URI must escape; a
  `file:` URI is the local path that it names. A place without a clear meaning is refused in one line.
- A child's name goes to the end of the path, before the query.
- A place holds no credentials: they would end up in recipes, logs and reports. One that does is refused, and every text
  that may quote it goes through `redacted`. Credentials come from the environment or from the credentials files of the
  storage's own tools, on each machine.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, unquote

from hat_ray.errors import HatRayError

_NEEDS_AUTHORITY = {"s3": "bucket", "gs": "bucket", "gcs": "bucket", "abfs": "container", "abfss": "container"}
_KNOWN = {*_NEEDS_AUTHORITY, "file", "hdfs", "viewfs"}
_UNESCAPED = "-._~!$&'()*+,;=:@"  # of a part of a path (RFC 3986)
_SECRET_NAME = re.compile(
    r"^(x-(amz|goog)-.*|sig|sas|key|auth|authorization|pwd|pass|user)$"
    r"|secret|token|passw|passphrase|access.?key|account.?key|api.?key|signature|credential(?!_kind)",
    re.IGNORECASE,
)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>`]+")
_USER = re.compile(r"(://)(?!anonymous@)[^/?#@]*(?::(?!\d+(?:[/?#]|$))[^?#]*)?@")
_PARAMETER = re.compile(r"([?&;])([^=&;#\s]+)=([^&;#\s]*)")
HIDDEN = "***"
NO_SECRETS = "a URI must hold no user, key, token or signature"
CREDENTIALS_REMEDY = "give them by environment variables or the storage's credentials file"


def is_uri(place: str) -> bool:
    """Whether a text names a place by a URI, and not by a local path."""
    return "://" in place or place.lower().startswith("file:/")


def canonical(place: str) -> str:
    """Return the one spelling of a place: an absolute local path, or a URI; raises HatRayError for a place that has
    none."""
    scheme, colon, rest = place.partition(":")
    if re.match(r"[A-Za-z]:[\\/]", place):
        raise HatRayError(f"{place} begins with a Windows drive letter: name a folder of this machine, or a URI")
    if not is_uri(place):
        if colon and scheme.lower() in _KNOWN:
            raise HatRayError(f"a URI has two slashes after its scheme, got {shown(place)}: write {scheme.lower()}://")
        if "\0" in place or not place:
            raise HatRayError(f"a folder's name is neither empty nor holds a null byte, got {place!r}: name one")
        return _absolute(place)
    scheme, rest = scheme.lower(), rest.removeprefix("//")
    refuse_secrets(place)
    rest, _, fragment = rest.partition("#")
    if fragment:
        raise HatRayError(f"a place has no part after #, got {shown(place)}: write %23 for a # in a name")
    path, mark, query = rest.partition("?")
    authority, _, path = path.partition("/")
    parts = _parts(path, place)
    if scheme == "file":
        return _local(authority, parts, query, place)
    if not authority and (scheme in _NEEDS_AUTHORITY or not parts):
        kind = _NEEDS_AUTHORITY.get(scheme, "folder")
        raise HatRayError(f"{shown(place)} names no {kind}: write {scheme}://NAME/FOLDER")
    return "/".join([f"{scheme}://{authority}", *parts]) + mark + quote(query, safe="%/?=&" + _UNESCAPED)


def joined(uri: str, names: Sequence[str]) -> str:
    """Return the canonical place of something below a canonical place."""
    if not is_uri(uri):
        return "/".join([uri.rstrip("/"), *names])
    path, mark, query = uri.partition("?")
    escaped = [quote(part, safe=_UNESCAPED) for name in names for part in name.split("/")]
    return "/".join([path.rstrip("/"), *escaped]) + mark + query


def split(uri: str) -> tuple[str, str]:
    """Return the canonical place of what holds another, and its name in there; raises HatRayError at the top."""
    path, mark, query = uri.partition("?") if is_uri(uri) else (uri, "", "")
    parent, _, _ = path.rpartition("/")
    if path.endswith("/") or parent.endswith(("/", ":")):
        raise HatRayError(f"{shown(uri)} names no file: add its name")
    return (parent or "/") + mark + query, last_names(uri, 1)


def last_names(uri: str, count: int) -> str:
    """Return the last parts of a canonical place's path, as they are called on the storage."""
    if not is_uri(uri):
        return "/".join(uri.rsplit("/", count)[-count:])
    path = uri.partition("?")[0].partition("://")[2]
    return unquote("/".join(path.rsplit("/", count)[-count:]))


def refuse_secrets(uri: str) -> None:
    """Raise HatRayError when a URI holds a user, a password, a token or a signature; the text shows none of them."""
    if redacted(uri) != uri:
        raise HatRayError(f"{NO_SECRETS}, got {shown(uri)}: {CREDENTIALS_REMEDY}")


def shown(uri: str) -> str:
    """Return a place for people: without what may be secret in it."""
    return redacted(uri)


def redacted(text: str) -> str:
    """Return a text in which the URIs show neither user nor password, token or signature."""
    return _URI.sub(lambda match: _redacted(match[0]), text)


def _redacted(uri: str) -> str:
    path, mark, query = uri.partition("?")
    container = re.match(r"abfss?://[^:/@]+@", path, re.IGNORECASE)  # it stands where others have the user
    path = path if container else _USER.sub(rf"\g<1>{HIDDEN}@", path)
    return path + _PARAMETER.sub(_parameter, mark + query)


def _parameter(match: re.Match[str]) -> str:
    name = unquote(match[2])
    if _SECRET_NAME.search(name) or "@" in unquote(match[3]):
        return f"{match[1]}{match[2]}={HIDDEN}"
    return match[0]


def _parts(path: str, place: str) -> list[str]:
    """Return the parts of a URI's path, each escaped in one way."""
    if re.search(r"%(?![0-9A-Fa-f]{2})", path):
        raise HatRayError(
            f"a % in a URI is followed by two hex digits, got {shown(place)}: write %25 for a % in a name"
        )
    parts = path.strip("/").split("/") if path.strip("/") else []
    plain = [unquote(part) for part in parts]
    for name in plain:
        if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise HatRayError(f"a part of a place is a plain name, got {name!r} in {shown(place)}: mend the place")
    return [quote(name, safe=_UNESCAPED) for name in plain]


def _absolute(place: str) -> str:
    try:
        return str(Path(place).expanduser().absolute())
    except RuntimeError as error:  # ~ of nobody
        raise HatRayError(f"{place} cannot be found ({error}): write the folder out") from error


def _local(authority: str, parts: Sequence[str], query: str, place: str) -> str:
    if query:
        raise HatRayError(f"a file: URI has no query, got {place}: write %3F for a ? in a name")
    if authority not in ("", "localhost"):
        raise HatRayError(f"a file: URI names no other machine, got {authority!r} in {place}: write file:///FOLDER")
    if parts and re.fullmatch(r"[A-Za-z]:", parts[0]):
        raise HatRayError(f"{place} begins with a Windows drive letter: name a folder of this machine, or a URI")
    return "/" + "/".join(unquote(part) for part in parts)
