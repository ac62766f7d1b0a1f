"""Who can write a configuration file: it names programs to run, so that is who can run programs."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from typing import TYPE_CHECKING

from scheduler.errors import Mark, Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

_ROOT = 0
_MOST_LINKS = 40  # as the kernel


def check_writable_by_others(
    path: Path, allowed_uids: Collection[int] | None = None, allowed_gids: Collection[int] = ()
) -> Problem | None:
    """Why the file cannot be trusted, or None; a file that is not there is for others to report.

    Only root and ``allowed_uids`` (None: the user that this process runs as), and the members of
    ``allowed_gids``, may be able to write the file or the directory that it, or what it links to,
    stands in. A group that has nobody else in it does no harm.
    """
    uids = {_ROOT, *((os.geteuid(),) if allowed_uids is None else allowed_uids)}
    for place in _places(path):
        try:
            status = place.stat()
        except OSError:
            return None  # who reads the file says better why it cannot
        reason = _reason(place, status, uids, allowed_gids)
        if reason:
            what = "this file" if place == path else str(place)
            return Problem(Mark(str(path), 1, 1), f"{what} {reason}")
    return None


def _places(path: Path) -> Iterator[Path]:
    """The file, its directory, and the same for each link on the way to the real file."""
    for _ in range(_MOST_LINKS):
        yield path
        yield path.parent
        try:
            path = path.parent / path.readlink()
        except OSError:  # no link: the end of the way
            return


def _reason(place: Path, status: os.stat_result, uids: set[int], gids: Collection[int]) -> str:
    """The sentence's end about a file or directory that others can write; empty if none can."""
    if status.st_uid not in uids:
        return (
            f"belongs to {_user(status.st_uid)}; only root and the user of the scheduler may own "
            "configuration (chown)"
        )
    # In a sticky directory nobody can replace the files of somebody else.
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        return ""
    if status.st_mode & stat.S_IWOTH:
        return "can be written by every user, and configuration names programs to run; chmod o-w it"
    if status.st_mode & stat.S_IWGRP:
        if _has_acl(place):
            return "can be written by way of its access control list; remove that (setfacl -b)"
        if status.st_gid not in gids and not _is_private(status.st_gid, uids):
            return (
                f"can be written by the group {_group(status.st_gid)}, and configuration names programs "
                "to run; chmod g-w it, or name the group in SCHEDULER_CONFIG_GROUP"
            )
    return ""


def _has_acl(place: Path) -> bool:
    """With a list the group bits are its mask and do not tell who may write."""
    try:
        return bool(os.getxattr(place, "system.posix_acl_access"))
    except OSError:  # there is none, or the file system has no such thing
        return False


def _is_private(gid: int, uids: set[int]) -> bool:
    """Whether nobody else is in the group (each user has one of his own on many systems)."""
    try:
        members = set(grp.getgrgid(gid).gr_mem)
    except KeyError:
        return False
    members |= {user.pw_name for user in pwd.getpwall() if user.pw_gid == gid}
    return members <= {_user(uid) for uid in uids}


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
