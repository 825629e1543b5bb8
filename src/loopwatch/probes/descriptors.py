"""What a file descriptor of this process is: "tcp 10.0.0.5:5432", a pipe, a file on which mount.

Names of files are values of the host (`/uploads/jane-doe.pdf`), so a file is told by the mount it
lies on, which is what decides how slow it can be. Addresses of peers are told.

Linux `/proc/self/fd`; elsewhere every descriptor is "other".
"""

from __future__ import annotations

import _socket
import os
import re
import socket
import stat
from itertools import islice
from pathlib import Path
from typing import Final

__all__ = ["detail_of", "kind_of"]

_PROTOCOLS: Final[dict[int, str]] = {socket.SOCK_STREAM: "tcp", socket.SOCK_DGRAM: "udp"}


# Asking these for the kind of a file may take as long as the read that stalls.
_MAY_HANG: Final = ("9p", "afs", "ceph", "cifs", "fuse", "lustre", "nfs", "smb", "virtiofs")


def kind_of(fd: int) -> str:
    """Return `socket`, `pipe`, `file`, `terminal`, `process` or `other`; never asks a server."""
    try:
        target = str(Path(f"/proc/self/fd/{fd}").readlink())
    except OSError:
        return "other"  # closed meanwhile, or never one
    if not target.startswith("/"):
        return _ANONYMOUS.get(target.partition(":")[0], "process" if "pidfd" in target else "other")
    if target.startswith(("/dev/tty", "/dev/pts/", "/dev/console")):
        return "terminal"
    mount = _mount(fd)
    if mount is None or mount[1].startswith(_MAY_HANG):
        return "file"
    try:
        return "pipe" if stat.S_ISFIFO(os.fstat(fd).st_mode) else "file"
    except (OSError, OverflowError):
        return "other"


_ANONYMOUS: Final = {"socket": "socket", "pipe": "pipe"}


def detail_of(fd: int) -> str | None:
    """Return what is known of a descriptor, without the name of any file."""
    kind = kind_of(fd)
    if kind == "socket":
        return _socket_detail(fd)
    if kind == "file":
        mount = _mount(fd)
        return f"file on {mount[0]}" if mount else None
    return None


def _socket_detail(fd: int) -> str | None:
    try:
        # An object around the host's descriptor, for its methods alone: it is detached before it
        # goes. Told that it does not block it leaves O_NONBLOCK alone, whatever the default
        # timeout of the host's sockets.
        # The C class: `socket.socket` may be the host's own by now.
        handle = _socket.socket(type=socket.SOCK_STREAM | _NONBLOCK, fileno=fd)
    except OSError:
        return None
    try:
        if handle.family == socket.AF_UNIX:
            return "unix socket"
        if handle.family not in (socket.AF_INET, socket.AF_INET6):
            return "socket"
        kind = handle.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
        name = _PROTOCOLS.get(kind, "socket")
        try:
            host, port = handle.getpeername()[:2]
        except OSError:
            return _connecting(fd, name)
    except (OSError, ValueError, TypeError):
        return None
    finally:
        handle.detach()
    return f"{name} [{host}]:{port}" if ":" in host else f"{name} {host}:{port}"


# A table of 100,000 sockets takes longer to read than the answer is worth.
_MOST_SOCKETS: Final = 5000
_NONBLOCK: Final = getattr(socket, "SOCK_NONBLOCK", 0)


def _connecting(fd: int, name: str) -> str:
    """Return the address a socket is being connected to; the kernel's table has it."""
    try:
        inode = str(os.fstat(fd).st_ino)
        with Path("/proc/self/net/tcp").open(encoding="ascii") as table:
            next(table)
            for line in islice(table, _MOST_SOCKETS):
                fields = line.split()
                address, port = fields[2].split(":")
                if fields[9] == inode and int(port, 16):  # none: it listens
                    host = ".".join(str(byte) for byte in bytes.fromhex(address)[::-1])
                    return f"{name} {host}:{int(port, 16)}"
    except (OSError, ValueError, IndexError, StopIteration):
        pass
    return name


def _mount(fd: int) -> tuple[str, str] | None:
    """Return where the mount of a file lies, and its file system, as the kernel knows them."""
    try:
        with Path(f"/proc/self/fdinfo/{fd}").open(encoding="ascii") as facts:
            mount = next(line.split()[1] for line in facts if line.startswith("mnt_id:"))
        with Path("/proc/self/mountinfo").open(errors="backslashreplace") as table:
            for line in table:
                fields = line.split(" ")
                if fields[0] == mount:
                    folder = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
                    return folder, fields[fields.index("-") + 1]
    except (OSError, ValueError, IndexError, StopIteration):
        pass
    return None


_OCTAL: Final = re.compile(r"\\([0-7]{3})")
