"""TLS clients for specs; none of them verifies.

  tls_clients.py names PORT COUNT [SERVER_NAME]   prints the certificates' common names of so many connections, one a line
  tls_clients.py load PORT THREADS                shakes hands again and again, and talks on connections that it holds, until SIGTERM;
                                                  prints `running`, and then `HANDSHAKES FAILED HELD LOST NAMES` and the last error
"""
import re, signal, socket, ssl, sys, threading, time

context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE


def connect(server_name=None):
    plain = socket.create_connection(('127.0.0.1', port), 20)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain, server_hostname=server_name)


def common_name(conn):
    names = re.findall(rb'\x06\x03\x55\x04\x03\x0c(.)(.*)', conn.getpeercert(True), re.S)
    length, rest = names[-1]
    return rest[:length[0]].decode()


def echo(conn, data):
    conn.sendall(data)
    got = b''
    while len(got) < len(data):
        more = conn.recv(65536)
        if not more:
            raise OSError('the connection ended')
        got += more
    if got != data:
        raise OSError('other data came')


def load(threads):
    done, lock, error = threading.Event(), threading.Lock(), ['-']
    count = dict(handshakes=0, failed=0, held=0, lost=0)
    names = set()

    def add(what, problem=None):
        with lock:
            count[what] += 1
            error[0] = repr(problem) if problem else error[0]

    def shake():
        while not done.is_set():
            try:
                conn = connect()
                echo(conn, b'x' * 100)
                names.add(common_name(conn))
                conn.close()
                add('handshakes')
            except OSError as problem:
                add('failed', problem)
                time.sleep(0.05)

    def hold():
        conn = connect()
        add('held')
        try:
            while not done.is_set():
                echo(conn, b'y' * 1000)
                time.sleep(0.005)
        except OSError as problem:
            add('lost', problem)

    all_threads = [threading.Thread(target=hold) for _ in range(2)] + [threading.Thread(target=shake) for _ in range(threads)]
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    for thread in all_threads:
        thread.start()
    while count['held'] < 2:
        time.sleep(0.01)
    print('running', flush=True)
    while not done.is_set():
        done.wait(0.1)
    for thread in all_threads:
        thread.join()
    print(count['handshakes'], count['failed'], count['held'], count['lost'], ','.join(sorted(names)), error[0], flush=True)


manner, port, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if manner == 'load':
    load(number)
else:
    for _ in range(number):
        conn = connect(sys.argv[4] if len(sys.argv) > 4 else None)
        print(common_name(conn))
        conn.close()
