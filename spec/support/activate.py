"""Does for a program what a service manager does: opens sockets, passes them on, and keeps them when the program has ended.

    activate.py [--start N] [--pid other] KIND... -- PROGRAM [ARGUMENT...]

KIND: tcp, tcp6, udp, unix:PATH, abstract:NAME, dgram:PATH, file, client (a connected socket). Writes events as applications
of specs do: `sockets` with the ports' numbers, `program` with its pid, `ended` with its exit status. Ends with SIGTERM."""
import os
import signal
import socket
import sys

start, pid_for, made, kinds = 3, None, [], []
arguments = sys.argv[1:]
while arguments[0] != '--':
    argument = arguments.pop(0)
    if argument == '--start':
        start = int(arguments.pop(0))
    elif argument == '--pid':
        pid_for = arguments.pop(0)
    else:
        kinds.append(argument)


def emit(name, *values):
    os.write(1, ('@%s\n' % ','.join(["'%s'" % name] + [str(v) for v in values])).encode())


def open_one(kind):
    kind, _, where = kind.partition(':')
    if kind == 'file':
        return open('/dev/null', 'rb')
    if kind == 'client':
        first, second = socket.socketpair()
        made.append(second)
        return first
    family = {'tcp6': socket.AF_INET6, 'unix': socket.AF_UNIX, 'abstract': socket.AF_UNIX, 'dgram': socket.AF_UNIX}
    kinds_of = {'udp': socket.SOCK_DGRAM, 'dgram': socket.SOCK_DGRAM}
    opened = socket.socket(family.get(kind, socket.AF_INET), kinds_of.get(kind, socket.SOCK_STREAM))
    if kind == 'abstract':
        opened.bind(b'\0' + where.encode())
    elif family.get(kind) == socket.AF_UNIX:
        opened.bind(where)
    else:
        opened.bind(('::1' if kind == 'tcp6' else '127.0.0.1', 0))
    if opened.type == socket.SOCK_STREAM:
        opened.listen(64)
    return opened


def number_of(opened):
    if not isinstance(opened, socket.socket) or opened.family == socket.AF_UNIX:
        return 0
    return opened.getsockname()[1]


sockets = [open_one(kind) for kind in kinds]
emit('sockets', '{%s}' % ','.join(str(number_of(s)) for s in sockets))
child = os.fork()
if child == 0:
    moved = [os.dup2(s.fileno(), 200 + i) for i, s in enumerate(sockets)]
    for i, fd in enumerate(moved):
        os.dup2(fd, start + i, inheritable=True)
        os.close(fd)
    os.environ.update(LISTEN_PID=str(pid_for and os.getppid() or os.getpid()), LISTEN_FDS=str(len(sockets)))
    if start != 3:
        os.environ['LISTEN_FDS_START'] = str(start)
    os.execv(arguments[1], arguments[1:])


def end(*_):
    if child:
        os.kill(child, signal.SIGTERM)
    os._exit(0)


signal.signal(signal.SIGTERM, end)
emit('program', child)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
child = 0
emit('ended', status)
while True:
    signal.pause()
