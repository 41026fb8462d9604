"""What a hostile package tries while it is built, each attempt by itself.

run() gives the names of the attempts that got something, and of the controls:
attempts of the same kind that must succeed, so that a probe that is broken
itself is not taken for a wall. world.json beside this file says what of the
host the attempts are after.
"""
import ctypes
import errno
import glob
import json
import mmap
import os
import resource
import signal
import socket
import stat
import struct
import subprocess
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "world.json")) as f:
    WORLD = json.load(f)


def call(number, *args):
    """A system call; OSError if the kernel refuses it."""
    got = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in args))
    if got < 0:
        raise OSError(ctypes.get_errno(), "call %d" % number)
    return got


def write(path, data="1\n"):
    fd = os.open(path, os.O_WRONLY)
    try:
        need(not stat.S_ISCHR(os.fstat(fd).st_mode))  # a mask is /dev/null
        os.write(fd, data.encode())
    finally:
        os.close(fd)


def need(condition):
    if not condition:
        raise OSError(errno.EPERM, "no")


def child(code):
    """Runs Python in a process of its own; it must end with 0."""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


ATTEMPTS, CONTROLS = {}, {}


def attempt(f):
    ATTEMPTS[f.__name__] = f
    return f


def control(f):
    CONTROLS[f.__name__] = f
    return f


def each(template, items, f):
    for item in items:
        ATTEMPTS[template % item] = lambda item=item: f(item)


# Controls.

@control
def read_own_file():
    need(open("/etc/passwd").read())


@control
def write_own_file():
    write_new("/tmp/control")


@control
def call_getpid():
    call(39)


@control
def run_child():
    child("0")


@control
def talk_on_loopback():
    s = socket.create_server(("127.0.0.1", 0))
    socket.create_connection(s.getsockname()).close()


@control
def talk_on_abstract_socket():
    s = socket.socket(socket.AF_UNIX)
    s.bind("\0hallmark-control")
    s.listen()
    socket.socket(socket.AF_UNIX).connect("\0hallmark-control")


@control
def machine_code():
    run_code(b"\xb8\x27\x00\x00\x00\x0f\x05\xc3")  # getpid by syscall


def write_new(path):
    with open(path, "w") as f:
        f.write("x")


# Files of the host, by where they are and by what is in them.

each("see %s", WORLD["paths"], os.lstat)
each("see %s from /proc/1/root", WORLD["paths"], lambda p: os.lstat("/proc/1/root" + p))
each("write %s", ["/usr/bin/python3.11", "/bin/sh", "/etc/hosts", "/etc/ld.so.preload", "/usr/lib/hallmark/driver.py",
                  "/build/env/bin/python3", "/new", "/etc/new", "/usr/lib/new", "/build/env/new"],
     lambda p: os.close(os.open(p, os.O_WRONLY | os.O_CREAT)))
each("read %s", ["/etc/shadow", "/etc/gshadow", "/root", "/proc/kcore", "/proc/kmsg", "/dev/mem", "/dev/kmsg", "/dev/sda",
                 "/dev/vda", "/dev/fuse", "/dev/kvm", "/dev/net/tun", "/dev/loop-control", "/dev/mqueue", "/run/docker.sock",
                 "/var/run/docker.sock", "/run/systemd", "/run/dbus", "/tmp/.X11-unix"],
     lambda p: need(os.listdir(p) if os.path.isdir(p) else open(p, "rb").read(1)))


@attempt
def token_of_the_host():
    """Looks for the test's secret in every file and name that can be read."""
    token = "".join(WORLD["token"]).encode()  # in two parts, so that this source does not hold it
    for top in ["/build", "/tmp", "/var", "/etc", "/dev", "/home", "/mnt", "/media", "/srv", "/opt", "/root", "/run", "/out", "/sys", "/usr/lib/hallmark"]:
        for folder, _, files in os.walk(top):
            for name in files:
                if token in os.path.join(folder, name).encode("utf-8", "surrogateescape"):
                    return
                path = os.path.join(folder, name)
                if stat.S_ISREG(os.lstat(path).st_mode) and os.path.getsize(path) < 1 << 20:
                    try:
                        if token in open(path, "rb").read():
                            return
                    except OSError:
                        pass
    for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline") + ["/proc/mounts", "/proc/self/mountinfo", "/proc/self/cgroup"]:
        if token in open(path, "rb").read():
            return
    raise OSError("no token")


@attempt
def descriptors_that_lead_out():
    """A descriptor that was left open is a way out (CVE-2024-21626)."""
    for fd in range(3, 1024):
        for who in ("self", "1"):
            path = "/proc/%s/fd/%d" % (who, fd)
            try:
                kind = os.stat(path).st_mode
            except OSError:
                continue
            if stat.S_ISDIR(kind):
                os.stat(path + "/../../../..")
                return
    raise OSError("none")


@attempt
def working_folder_that_leads_out():
    for path in WORLD["paths"]:
        if os.path.exists("/proc/1/cwd/../../../../../.." + path):
            return
    raise OSError("none")


@attempt
def processes_of_the_host():
    """Every process that can be seen must be a child of this sandbox's first."""
    for path in glob.glob("/proc/[0-9]*/status"):
        text = open(path).read()
        if "\nUid:\t1000\t1000\t1000\t1000\n" not in text or "\nNoNewPrivs:\t1\n" not in text:
            return
    need(os.path.exists("/proc/1") and open("/proc/1/stat").read().split()[3] != "0")


@attempt
def capabilities():
    text = open("/proc/self/status").read()
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        if int(text.split(name + ":")[1].split()[0], 16):
            return
    raise OSError("none")


# /proc and /sys.

each("write %s", ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hostname", "/proc/sys/kernel/ns_last_pid",
                  "/proc/sys/kernel/printk", "/proc/sys/vm/drop_caches", "/proc/sys/vm/overcommit_memory", "/proc/sys/net/ipv4/ip_forward",
                  "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/user/max_user_namespaces", "/proc/sys/fs/binfmt_misc/register",
                  "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity", "/proc/1/uid_map", "/proc/self/gid_map",
                  "/proc/self/timens_offsets", "/proc/self/attr/current", "/proc/cpuinfo", "/proc/meminfo",
                  "/proc/acpi/wakeup", "/proc/driver/rtc",
                  "/sys/kernel/uevent_helper", "/sys/power/state", "/sys/fs/cgroup/cgroup.procs", "/sys/devices/system/cpu/online"], write)


@attempt
def overwrite_own_interpreter():
    write("/proc/self/exe", "\x7fELF")


@attempt
def overwrite_first_process():
    """The runtime's own program, as it was reached in CVE-2019-5736."""
    write("/proc/1/exe", "\x7fELF")


@attempt
def out_of_memory_score():
    """The host takes builds first when it has no memory left; a build may not take that back.

    That needs a host that may set the least score, which is root with CAP_SYS_RESOURCE."""
    need(WORLD["resource"])
    before = int(open("/proc/self/oom_score_adj").read())
    need(before > 0)
    write("/proc/self/oom_score_adj", str(before - 1))


each("host's value in %s", ["/proc/version", "/proc/cmdline", "/proc/modules", "/proc/kallsyms", "/proc/sys/kernel/random/boot_id", "/proc/keys",
                            "/proc/sched_debug", "/proc/partitions", "/proc/crypto", "/proc/interrupts", "/proc/vmstat", "/proc/locks",
                            "/proc/sys/kernel/core_pattern", "/proc/sys/fs/file-nr", "/proc/sys/fs/inode-nr", "/proc/sys/fs/dentry-state",
                            "/proc/cgroups", "/proc/filesystems", "/proc/sys/kernel/random/entropy_avail", "/proc/sys/kernel/tainted"],
     lambda p: need(open(p).read()))


# The kernel.

def fork_flags(flags):
    pid = call(56, flags | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


CALLS = {
    "mount": (165, b"t", b"/tmp", b"tmpfs", 0, 0), "umount": (166, b"/proc", 2), "pivot_root": (155, b"/tmp", b"/tmp"), "chroot": (161, b"/tmp"),
    "unshare user": (272, 0x10000000), "unshare mount": (272, 0x20000), "unshare net": (272, 0x40000000), "clone3": (435, 0, 0),
    "open_tree": (428, -100, b"/", 1), "fsopen": (430, b"tmpfs", 0), "move_mount": (429, -100, b"/proc", -100, b"/tmp", 0),
    "mount_setattr": (442, -100, b"/", 0, 0, 0), "ptrace": (101, 0, 0, 0, 0), "ptrace attach": (101, 16, 1, 0, 0),
    "process_vm_readv": (310, 1, 0, 0, 0, 0, 0), "process_vm_writev": (311, 1, 0, 0, 0, 0, 0), "pidfd_getfd": (438, 0, 0, 0), "kcmp": (312, 1, 1, 0, 0, 0),
    "bpf": (321, 0, 0, 0), "perf_event_open": (298, 0, 0, 0, -1, 0), "io_uring_setup": (425, 8, 0), "userfaultfd": (323, 1),
    "keyctl": (250, 0, -3, 0), "add_key": (248, b"user", b"a", b"b", 1, -3), "request_key": (249, b"user", b"a", 0, -3),
    "init_module": (175, 0, 0, b""), "finit_module": (313, 0, b"", 0), "kexec_load": (246, 0, 0, 0, 0), "iopl": (172, 3), "ioperm": (173, 0x70, 2, 1),
    "swapon": (167, b"/tmp/x", 0), "quotactl": (179, 0, 0, 0, 0), "acct": (163, 0), "reboot": (169, 0xfee1dead, 672274793, 0, 0),
    "settimeofday": (164, 0, 0), "clock_settime": (227, 0, 0), "adjtimex": (159, 0), "sethostname": (170, b"x", 1), "syslog": (103, 3, 0, 0),
    "name_to_handle_at": (303, -100, b"/", 0, 0, 0), "open_by_handle_at": (304, 0, 0, 0), "fanotify_init": (300, 0, 0), "lookup_dcookie": (212, 0, 0, 0),
    "setns": (308, 0, 0), "vhangup": (153,), "mbind": (237, 0, 0, 0, 0, 0, 0), "move_pages": (279, 1, 0, 0, 0, 0, 0), "modify_ldt": (154, 1, 0, 0),
    "uselib": (134, b"/x"), "nfsservctl": (180, 0, 0, 0), "_sysctl": (156, 0), "personality 32 bit": (135, 0x400000), "landlock beside": (449, 0, 0, 0, 0, 0),
    "memfd_secret": (447, 0), "process_madvise": (440, 0, 0, 0, 0, 0), "statmount": (457, 0, 0, 0, 0), "listmount": (458, 0, 0, 0, 0), "lsm_set_self_attr": (460, 0, 0, 0, 0),
}
each("call %s", [k for k in CALLS if k != "landlock beside"], lambda k: call(*CALLS[k]))
each("clone with flag %#x", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000], fork_flags)
each("join namespace %s", ["mnt", "pid", "net", "user", "ipc", "uts", "cgroup", "time"],
     lambda n: call(308, os.open("/proc/1/ns/" + n, os.O_RDONLY), 0))


def run_code(code):
    """Runs bytes of machine code in a child, which must end well."""
    pid = os.fork()
    if pid == 0:
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(code)
        got = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
        os._exit(0 if got > 0 else 1)
    need(os.waitpid(pid, 0)[1] == 0)


@attempt
def calls_of_32_bits():
    run_code(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # getpid by int 0x80


@attempt
def calls_of_x32():
    run_code(b"\xb8\x27\x00\x00\x40\x0f\x05\xc3")  # getpid with bit 30


FAMILIES = {"packet": (17, 3, 0), "vsock": (40, 1, 0), "alg": (38, 5, 0), "bluetooth": (31, 3, 1), "can": (29, 3, 1), "key": (15, 3, 2),
            "xdp": (44, 3, 0), "rds": (21, 5, 0), "tipc": (30, 5, 0), "nfc": (39, 5, 1), "qipcrtr": (42, 2, 0), "smc": (43, 1, 0), "kcm": (41, 5, 0),
            "netlink audit": (16, 3, 9), "netlink uevent": (16, 3, 15), "netlink netfilter": (16, 3, 12), "netlink diag": (16, 3, 4),
            "raw": (2, 3, 1), "raw6": (10, 3, 58), "old packet": (2, 10, 768), "sctp": (2, 1, 132), "sctp6": (10, 5, 132), "dccp": (2, 6, 33),
            "udplite": (2, 2, 136), "l2tp": (2, 2, 115), "mptcp": (2, 1, 262), "gre": (2, 3, 47), "ipv6 icmp over raw": (10, 3, 58)}
each("socket %s", FAMILIES, lambda k: socket.socket(*FAMILIES[k]).close())


# Rights.

each("become %d", [0, 1, 999, 1001, 65534], os.setuid)
each("%s", ["change owner", "set groups", "device", "device 0:0", "link to a file of root", "file capability", "trusted attribute", "overlay attribute",
            "priority", "real time", "raise a limit", "set-user-id program", "more locked memory", "core dumps"],
     lambda what: RIGHTS[what]())


def set_id():
    """A copy of a program, set-user-id, of our own: it must not give more rights; of root's there is none."""
    for folder, _, files in os.walk("/usr"):
        for name in files:
            s = os.lstat(os.path.join(folder, name))
            if stat.S_ISREG(s.st_mode) and s.st_mode & stat.S_ISUID and s.st_uid == 0:
                out = subprocess.run([os.path.join(folder, name), "--version"], capture_output=True)
                with open("/proc/self/status") as f:
                    need("NoNewPrivs:\t0" in f.read())
    need(os.geteuid() == 0)


def fresh(name):
    write_new(name)
    return name


def core():
    """A crash may start the host's handler of core dumps; the limit 1 forbids that too (core(5))."""
    need(resource.getrlimit(resource.RLIMIT_CORE) != (1, 1))


def lower_core():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    core()


RIGHTS = {
    "change owner": lambda: os.chown(fresh("/tmp/own"), 0, 0),
    "set groups": lambda: os.setgroups([0]),
    "device": lambda: os.mknod("/tmp/dev", stat.S_IFBLK | 0o666, os.makedev(8, 0)),
    "device 0:0": lambda: os.mknod("/tmp/dev0", stat.S_IFCHR | 0o666, os.makedev(0, 0)),
    "link to a file of root": lambda: os.link("/usr/bin/python3.11", "/tmp/link"),
    "file capability": lambda: os.setxattr(fresh("/tmp/cap"), "security.capability", struct.pack("<IIIII", 0x2000001, 0xffffffff, 0, 0, 0)),
    "trusted attribute": lambda: os.setxattr(fresh("/tmp/trusted"), "trusted.x", b"y"),
    "overlay attribute": lambda: os.setxattr(fresh("/tmp/overlay"), "trusted.overlay.opaque", b"y"),
    "priority": lambda: os.nice(-5),
    "real time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20)),
    "set-user-id program": set_id,
    "more locked memory": lambda: resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 40, 1 << 40)),
    "core dumps": lower_core,
}


# The host's sockets. Loopback is the sandbox's own.

each("host's TCP port %d", WORLD["ports"], lambda p: socket.create_connection(("127.0.0.1", p), 2))
each("host's TCP port %d by IPv6", WORLD["ports"], lambda p: socket.create_connection(("::1", p), 2))
@attempt
def abstract_socket_of_the_host():
    socket.socket(socket.AF_UNIX).connect("\0" + "".join(WORLD["token"]))


def run():
    got = []
    for name, f in ATTEMPTS.items():
        pid = os.fork()  # each in a process of its own: what one does to itself harms no other
        if pid == 0:
            code = 1
            try:
                signal.alarm(20)
                f()
                code = 0
            except BaseException:
                pass
            os._exit(code)
        if os.waitpid(pid, 0)[1] == 0:
            got.append(name)
    works = []
    for name, f in CONTROLS.items():
        try:
            f()
            works.append(name)
        except Exception as e:
            print("control", name, e)
    return json.dumps({"attempts": len(ATTEMPTS), "got": got, "controls": len(works), "of": len(CONTROLS)})


if __name__ == "__main__":
    print(run())
