"""Name spaces of a tier that several applications use: what belongs to an owner is called ``owner/name``.

An application says a plain name and means its owner's; a full name is the same for everybody. A tier that an application has started for
itself has no owners, and names there are plain ones.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from sparkps.errors import ConfigError
from sparkps.plain import shown

#: What stands between an owner and a name.
SEPARATOR = "/"

_OWNER = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}\Z")

#: Bytes of the hash by which names that had to be changed are told apart.
_DIGEST_BYTES = 4

_STRANGE = re.compile(r"[^A-Za-z0-9_.\-]")


def full_name(name: str, owner: str) -> str:
    """What a name means to an application of that owner; with owner "" it is the name itself.

    Examples
    --------
    >>> full_name("w", "ann"), full_name("bob/w", "ann"), full_name("w", "")
    ('ann/w', 'bob/w', 'w')
    """
    return f"{owner}{SEPARATOR}{name}" if owner and isinstance(name, str) and name and SEPARATOR not in name else name


def owner_of(name: str) -> str:
    """Whose a name is; "": nobody's.

    Examples
    --------
    >>> owner_of("ann/w"), owner_of("w")
    ('ann', '')
    """
    return name.partition(SEPARATOR)[0] if SEPARATOR in name else ""


def is_owner(owner: Any) -> bool:
    """Whether an owner can be called so: as a table, in at most 64 characters."""
    return isinstance(owner, str) and _OWNER.match(owner) is not None


def check_owner(owner: Any) -> str:
    """`owner`, if an owner can be called so.

    Raises
    ------
    ConfigError
    """
    if not is_owner(owner):
        raise ConfigError(
            "An owner (`spark.sparkps.owner`) must start with a letter or '_', hold letters, digits, '_', '.' or '-' only, and be at most"
            f" 64 characters long. Got {shown(owner)} instead.",
            key="spark.sparkps.owner",
        )
    return str(owner)


def owner_for(user: str) -> str:
    """The owner that a user of the system is, whatever the name: two users are two owners.

    A name that no owner can have is changed, and ends with a hash of what it was.

    Examples
    --------
    >>> owner_for("ann"), owner_for("CORP\\\\ann lee"), owner_for("7of9"), owner_for("")
    ('ann', 'CORP_ann_lee-39cc07e8', '_7of9-9df532a6', 'user-1271cf25')
    """
    if is_owner(user):
        return user
    plain = _STRANGE.sub("_", user) or "user"
    plain = plain if is_owner(plain[:1]) else f"_{plain}"
    digest = hashlib.blake2b(user.encode(errors="surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{plain[: 63 - len(digest)]}-{digest}"


__all__ = ["SEPARATOR", "check_owner", "full_name", "is_owner", "owner_for", "owner_of"]
