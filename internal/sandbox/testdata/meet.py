"""One of two builds that run at the same time and look for one another.

Arguments: own token, the other's token, seconds. Each leaves its token in every
place that two processes of one machine could share, and reads the other's out
of it until the time is over. It prints what it found, a place a line.
"""
import ctypes
import fcntl
import glob
import mmap
import os
import socket
import struct
import sys
import threading
import time

OWN, OTHER, SECONDS = sys.argv[1].encode(), sys.argv[2].encode(), float(sys.argv[3])
FIRST = OWN < OTHER
KEY = 0x48616c6c
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
found = set()
locks = []
end = time.monotonic() + SECONDS


def quiet(f):
    try:
        return f()
    except OSError:
        return None


def leave():
    """Leaves the token; some places hold it only while this process lives."""
    for folder in ("/tmp", "/var/tmp", "/dev/shm", "/out", "/build", "/build/src", "/run", "/var/lock", "/dev", "/proc/self", "/"):
        quiet(lambda: open(os.path.join(folder, "meet-" + OWN.decode()), "wb").write(OWN))
    sockets = []
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        s = socket.socket(socket.AF_UNIX, kind)
        s.bind(b"\0meet-%d-" % kind + OWN)
        sockets.append(s)
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        s = socket.socket(family)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((host, 20001 if FIRST else 20002))
        s.listen()
        sockets.append(s)
    shm = libc.shmget(KEY + FIRST, 4096, 0o1666)
    at = libc.shmat(shm, None, 0)
    if at and at != ctypes.c_void_p(-1).value:
        ctypes.memmove(at, OWN, len(OWN))
    libc.semget(KEY + FIRST, 1, 0o1666)
    msg = libc.msgget(KEY + FIRST, 0o1666)
    for _ in range(8):
        libc.msgsnd(msg, struct.pack("l", 1) + OWN, len(OWN), 0o4000)
    mq = libc.syscall(240, b"meet-" + OWN, os.O_RDWR | os.O_CREAT, 0o666, None)
    if mq >= 0:
        locks.append(mq)
    return sockets


def shared_files():
    """Files that both builds read from the same layer."""
    return [p for p in ("/usr/bin/python3.11", "/etc/hosts", "/etc/passwd", "/usr/lib/x86_64-linux-gnu/libc.so.6", "/proc/cpuinfo", "/dev/null", "/dev/zero", "/dev/urandom", "/proc/version") if os.path.exists(p)]


def lock():
    """One of the two locks each file in three ways, the other asks whether it is locked."""
    for path in shared_files():
        fd = os.open(path, os.O_RDONLY)
        locks.append(fd)
        if FIRST:
            quiet(lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB))
            quiet(lambda: fcntl.fcntl(fd, 37, struct.pack("hhqqi", fcntl.F_RDLCK, 0, 0, 1, 0)))
            quiet(lambda: fcntl.fcntl(fd, 1024, fcntl.F_RDLCK))  # F_SETLEASE
        else:
            for how in (fcntl.LOCK_SH, fcntl.LOCK_EX):
                try:
                    fcntl.flock(fd, how | fcntl.LOCK_NB)
                    fcntl.flock(fd, fcntl.LOCK_UN)
                except BlockingIOError:
                    found.add("flock " + path)


def look():
    for folder in ("/tmp", "/var/tmp", "/dev/shm", "/out", "/build", "/build/src", "/run", "/var/lock", "/dev", "/"):
        if quiet(lambda: open(os.path.join(folder, "meet-" + OTHER.decode()), "rb").read()) == OTHER:
            found.add("file in " + folder)
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        s = socket.socket(socket.AF_UNIX, kind)
        if quiet(lambda: s.connect(b"\0meet-%d-" % kind + OTHER) or True):
            found.add("abstract socket")
    for host in ("127.0.0.1", "::1"):
        if quiet(lambda: socket.create_connection((host, 20002 if FIRST else 20001), 1)):
            found.add("loopback")
    shm = libc.shmget(KEY + (not FIRST), 4096, 0o666)
    if shm >= 0:
        found.add("System V shared memory")
    if libc.semget(KEY + (not FIRST), 1, 0o666) >= 0:
        found.add("System V semaphore")
    if libc.msgget(KEY + (not FIRST), 0o666) >= 0:
        found.add("System V queue")
    if libc.syscall(240, b"meet-" + OTHER, os.O_RDWR, 0, None) >= 0:
        found.add("POSIX queue")
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        if OTHER + b"\0" + OWN in (quiet(lambda: open(path, "rb").read()) or b""):
            found.add("process " + path)
    for path in glob.glob("/proc/net/unix"):
        if OTHER in open(path, "rb").read():
            found.add("list of sockets")


def main():
    kept = leave()
    if FIRST:
        lock()
    while time.monotonic() < end:
        look()
        if not FIRST:
            lock()
        # Not time.sleep: this also runs under libfaketime.
        threading.Event().wait(0.05)
    for what in sorted(found):
        print(what)
    del kept


main()
