package sandbox

import (
	"runtime"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// allowedCalls is every system call that a build may make without a look at its
// arguments. What is not here answers ENOSYS, as if the kernel were older, so
// that a C library falls back instead of failing. Left out on purpose, since
// they reach the host's kernel where a build has no business: mounts, name
// spaces, tracing and other processes' memory, BPF, performance events, key
// rings, io_uring, userfaultfd, modules, clocks, swap, quotas, accounting, file
// handles, and clone3, whose flags a filter cannot see.
const allowedCalls = `
accept accept4 access alarm arch_prctl bind brk cachestat capget capset chdir chmod chown
clock_getres clock_gettime clock_nanosleep close close_range connect copy_file_range creat
dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2
epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2
fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr
flistxattr flock fork fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex futex_requeue
futex_wait futex_waitv futex_wake futimesat get_mempolicy get_robust_list get_thread_area getcpu
getcwd getdents getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp
getpid getppid getpriority getrandom getresgid getresuid getrlimit getrusage getsid getsockname
getsockopt gettid gettimeofday getuid getxattr inotify_add_watch inotify_init inotify_init1
inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit ioctl
ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self
lchown lgetxattr link linkat listen listxattr llistxattr lremovexattr lseek lsetxattr lstat
madvise map_shadow_stack membarrier memfd_create mincore mkdir mkdirat mknod mknodat mlock mlock2
mlockall mmap mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink
mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap nanosleep newfstatat
open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free
pkey_mprotect poll ppoll prctl pread64 preadv preadv2 process_mrelease pselect6 pwrite64
pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg
remap_file_pages removexattr rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq
rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity
sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity
sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop
semtimedop sendfile sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid
setfsuid setgid setgroups setitimer setpgid setpriority setregid setresgid setresuid setreuid
setsid setsockopt setuid setxattr shmat shmctl shmdt shmget shutdown sigaltstack
signalfd signalfd4 splice stat statfs statx symlink symlinkat sync sync_file_range syncfs sysinfo
tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_settime
timerfd_create timerfd_gettime timerfd_settime times tkill truncate umask uname unlink unlinkat
utime utimensat utimes vfork vmsplice wait4 waitid waitpid write writev
`

// personalities that a build may ask for: Linux, the same with a 32-bit name,
// without address randomisation, with the old release name, and "which have I".
var personalities = []uint64{0x0, 0x8, 0x40000, 0x20000, 0x20008, 0x60000, 0xffffffff}

const cloneNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// seccompProfile is the filter of every sandbox: an allow-list.
func seccompProfile() *specs.LinuxSeccomp {
	enosys, eperm := uint(unix.ENOSYS), uint(unix.EPERM)
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, DefaultErrnoRet: &enosys}
	switch runtime.GOARCH {
	case "amd64":
		p.Architectures = []specs.Arch{specs.ArchX86_64}
	case "arm64":
		p.Architectures = []specs.Arch{specs.ArchAARCH64}
	}
	allow := func(args []specs.LinuxSeccompArg, names ...string) {
		p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: names, Action: specs.ActAllow, Args: args})
	}
	equal := func(index uint, value uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: index, Value: value, Op: specs.OpEqualTo}
	}
	allow(nil, strings.Fields(allowedCalls)...)
	allow([]specs.LinuxSeccompArg{{Index: 0, Value: cloneNamespaces, ValueTwo: 0, Op: specs.OpMaskedEqual}}, "clone")
	for _, v := range personalities {
		allow([]specs.LinuxSeccompArg{equal(0, v)}, "personality")
	}
	allow([]specs.LinuxSeccompArg{equal(0, unix.AF_UNIX)}, "socket")
	// Of the internet protocols TCP, UDP and ping alone: asking for another one
	// makes the host's kernel load a module (net-pf-2-proto-132), and what goes
	// out over it would not be understood.
	for _, family := range []uint64{unix.AF_INET, unix.AF_INET6} {
		for _, p := range [][2]uint64{{unix.SOCK_STREAM, 0}, {unix.SOCK_STREAM, unix.IPPROTO_TCP}, {unix.SOCK_DGRAM, 0}, {unix.SOCK_DGRAM, unix.IPPROTO_UDP},
			{unix.SOCK_DGRAM, unix.IPPROTO_ICMP}, {unix.SOCK_DGRAM, unix.IPPROTO_ICMPV6}} {
			kind := specs.LinuxSeccompArg{Index: 1, Value: 0xf, ValueTwo: p[0], Op: specs.OpMaskedEqual} // without SOCK_CLOEXEC, SOCK_NONBLOCK
			allow([]specs.LinuxSeccompArg{equal(0, family), kind, equal(2, p[1])}, "socket")
		}
	}
	allow([]specs.LinuxSeccompArg{equal(0, unix.AF_NETLINK), equal(2, unix.NETLINK_ROUTE)}, "socket")
	allow([]specs.LinuxSeccompArg{equal(0, unix.AF_UNIX)}, "socketpair")
	// The limit on core dumps stays what it is: a kernel hands a dump over to the
	// host's handler, outside of every namespace, unless that limit is 1 (core(5)).
	// Who changes it is told that it went well.
	other := func(index uint, value uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: index, Value: value, Op: specs.OpNotEqual}
	}
	done := uint(0)
	allow([]specs.LinuxSeccompArg{other(0, unix.RLIMIT_CORE)}, "setrlimit")
	allow([]specs.LinuxSeccompArg{other(1, unix.RLIMIT_CORE)}, "prlimit64")
	allow([]specs.LinuxSeccompArg{equal(1, unix.RLIMIT_CORE), equal(2, 0)}, "prlimit64")
	p.Syscalls = append(p.Syscalls,
		specs.LinuxSyscall{Names: []string{"setrlimit"}, Action: specs.ActErrno, ErrnoRet: &done, Args: []specs.LinuxSeccompArg{equal(0, unix.RLIMIT_CORE)}},
		specs.LinuxSyscall{Names: []string{"prlimit64"}, Action: specs.ActErrno, ErrnoRet: &done, Args: []specs.LinuxSeccompArg{equal(1, unix.RLIMIT_CORE), other(2, 0)}})
	// What people know by name says "not permitted" rather than "no such call".
	p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{
		Names: []string{"mount", "umount2", "pivot_root", "chroot", "unshare", "setns", "ptrace", "bpf",
			"keyctl", "add_key", "request_key", "perf_event_open", "userfaultfd", "reboot", "settimeofday",
			"clock_settime", "sethostname", "setdomainname", "init_module", "finit_module", "delete_module"},
		Action: specs.ActErrno, ErrnoRet: &eperm,
	})
	return p
}
