"""DTLS 1.2 clients for specs, by OpenSSL's library through ctypes, for Python's own ssl module has none.

  dtls_talk.py talk HOST PORT [NAME=VALUE…] STEP…   one client; a line for each step that has something to tell
  dtls_talk.py crowd PORT…                          a client for each port, all at once: `SECONDS` or the state for each one
  dtls_talk.py flood PORT COUNT                     COUNT clients that stop in the middle of their handshakes; prints `there`, stays

Options: cert (path of a certificate with its key) · mtu (of its own datagrams) · from (own port)
Steps:
  shake        the handshake: `open new|resumed`, or its state
  half         the beginning of another handshake, which goes no further: up to the second ClientHello and the answer to it
  ask:TEXT     sends TEXT and a line feed as a record, and prints the line that comes: its length if it is long
  send:TEXT    the same, without waiting for an answer
  hex:BYTES    sends a datagram past DTLS
  rest         waits for the end: `BYTES ended|failed`, or `BYTES open` after 20 seconds
  anew         forgets all there was, and begins again from the same port; handshakes are up to the next steps
  again        says goodbye, and begins again from the same port with the session
  wait:PATH    goes on when the file is there, and sends something that is no record until then
  doubled      a ClientHello with its cookie 50 times from another port: `other true` if each answer was smaller; and then from its own:
               `own` if it was answered
"""
import ctypes, ctypes.util, os, resource, select, socket, sys, time


def load(name):
    for path in ('lib%s.so.3' % name, ctypes.util.find_library(name)):
        try:
            return ctypes.CDLL(path)
        except (OSError, TypeError):
            pass
    raise SystemExit('no lib' + name)


crypto, openssl = load('crypto'), load('ssl')
pointer, number, size = ctypes.c_void_p, ctypes.c_long, ctypes.c_size_t


def declare(library, result, name, *arguments):
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
    return function


new_context = declare(openssl, pointer, 'SSL_CTX_new', pointer)
client_method = declare(openssl, pointer, 'DTLSv1_2_client_method')
context_options = declare(openssl, ctypes.c_uint64, 'SSL_CTX_set_options', pointer, ctypes.c_uint64)
context_file = declare(openssl, ctypes.c_int, 'SSL_CTX_use_certificate_chain_file', pointer, ctypes.c_char_p)
context_key = declare(openssl, ctypes.c_int, 'SSL_CTX_use_PrivateKey_file', pointer, ctypes.c_char_p, ctypes.c_int)
new_ssl = declare(openssl, pointer, 'SSL_new', pointer)
free_ssl = declare(openssl, None, 'SSL_free', pointer)
set_bio = declare(openssl, None, 'SSL_set_bio', pointer, pointer, pointer)
control = declare(openssl, number, 'SSL_ctrl', pointer, ctypes.c_int, number, pointer)
connect_state = declare(openssl, None, 'SSL_set_connect_state', pointer)
handshake = declare(openssl, ctypes.c_int, 'SSL_do_handshake', pointer)
get_error = declare(openssl, ctypes.c_int, 'SSL_get_error', pointer, ctypes.c_int)
read_some = declare(openssl, ctypes.c_int, 'SSL_read', pointer, ctypes.c_char_p, ctypes.c_int)
write_all = declare(openssl, ctypes.c_int, 'SSL_write', pointer, ctypes.c_char_p, ctypes.c_int)
shut = declare(openssl, ctypes.c_int, 'SSL_shutdown', pointer)
get_session = declare(openssl, pointer, 'SSL_get1_session', pointer)
set_session = declare(openssl, ctypes.c_int, 'SSL_set_session', pointer, pointer)
was_reused = declare(openssl, ctypes.c_int, 'SSL_session_reused', pointer)
new_datagrams = declare(crypto, pointer, 'BIO_new_dgram', ctypes.c_int, ctypes.c_int)
bio_control = declare(crypto, number, 'BIO_ctrl', pointer, ctypes.c_int, number, pointer)
new_address = declare(crypto, pointer, 'BIO_ADDR_new')
make_address = declare(crypto, ctypes.c_int, 'BIO_ADDR_rawmake', pointer, ctypes.c_int, ctypes.c_char_p, size, ctypes.c_ushort)
new_bio = declare(crypto, pointer, 'BIO_new', pointer)
memory = declare(crypto, pointer, 'BIO_s_mem')
bio_read = declare(crypto, ctypes.c_int, 'BIO_read', pointer, ctypes.c_char_p, ctypes.c_int)
bio_write = declare(crypto, ctypes.c_int, 'BIO_write', pointer, ctypes.c_char_p, ctypes.c_int)
clear_errors = declare(crypto, None, 'ERR_clear_error')

WANT_READ, ZERO_RETURN = 2, 6
GET_TIMEOUT, HANDLE_TIMEOUT, SET_MTU, SET_CONNECTED = 73, 74, 17, 32
NO_QUERY_MTU = 0x1000


class Time(ctypes.Structure):
    _fields_ = [('seconds', number), ('microseconds', number)]


class Session:
    """A client's side. mtu: of its own datagrams; cert: path of certificate and key; session: of an earlier one, to resume."""

    def __init__(self, port, host='127.0.0.1', mtu=1400, cert=None, session=None, own=None):
        self.context = new_context(client_method())
        context_options(self.context, NO_QUERY_MTU)
        if cert and not (context_file(self.context, cert.encode()) and context_key(self.context, cert.encode(), 1)):
            raise SystemExit('no certificate in ' + cert)
        family = socket.AF_INET6 if ':' in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        if own:
            self.socket.bind(own)
        self.socket.connect((host, port))
        self.socket.setblocking(False)
        self.began, self.took, self.state = time.monotonic(), None, 'shaking'
        self.ssl = new_ssl(self.context)
        bio, address, raw = new_datagrams(self.socket.fileno(), 0), new_address(), socket.inet_pton(family, host)
        make_address(address, family, raw, len(raw), socket.htons(port))
        bio_control(bio, SET_CONNECTED, 0, address)
        set_bio(self.ssl, bio, bio)
        control(self.ssl, SET_MTU, mtu, None)
        connect_state(self.ssl)
        if session:
            set_session(self.ssl, session)

    def fileno(self):
        return self.socket.fileno()

    def due(self):
        """Seconds until step() has to be called though nothing came; None: never."""
        left = Time()
        if control(self.ssl, GET_TIMEOUT, 0, ctypes.addressof(left)) == 0:
            return None
        return left.seconds + left.microseconds / 1e6

    def fail(self, result):
        error = get_error(self.ssl, result)
        if error == WANT_READ:
            return
        self.state = 'ended' if error == ZERO_RETURN else 'failed'

    def step(self):
        """Goes on with the handshake as far as it can. state: 'shaking', 'open', 'failed'."""
        clear_errors()
        if self.due() == 0:
            control(self.ssl, HANDLE_TIMEOUT, 0, None)
        result = handshake(self.ssl)
        if result == 1:
            self.state, self.took = 'open', time.monotonic() - self.began
        else:
            self.fail(result)

    def shake(self, seconds=10):
        """Waits for the end of the handshake, and returns the state."""
        last = time.monotonic() + seconds
        self.step()
        while self.state == 'shaking' and time.monotonic() < last:
            due = self.due()
            select.select([self], [], [], min(last - time.monotonic(), 60 if due is None else due))
            self.step()
        return self.state

    def send(self, data):
        clear_errors()
        result = write_all(self.ssl, data, len(data))
        if result != len(data):
            self.fail(result)
        return result == len(data)

    def receive(self, seconds=0):
        """The data of one record; None: none came in time, or state has become 'ended' (close_notify) or 'failed'."""
        last, room = time.monotonic() + seconds, ctypes.create_string_buffer(65536)
        while True:
            clear_errors()
            result = read_some(self.ssl, room, 65536)
            if result > 0:
                return room.raw[:result]
            self.fail(result)
            left = last - time.monotonic()
            if self.state != 'open' or left <= 0:
                return None
            select.select([self], [], [], left)

    def say_goodbye(self):
        shut(self.ssl)

    def is_resumed(self):
        return was_reused(self.ssl) == 1

    def session(self):
        return get_session(self.ssl)

    def close(self):
        free_ssl(self.ssl)
        self.socket.close()


def begin(sock):
    """The beginning of a handshake on a connected socket, and no more: returns the ClientHello with the cookie, which was not sent yet."""
    context = new_context(client_method())
    context_options(context, NO_QUERY_MTU)
    ssl, incoming, outgoing = new_ssl(context), new_bio(memory()), new_bio(memory())
    set_bio(ssl, incoming, outgoing)
    control(ssl, SET_MTU, 1400, None)
    connect_state(ssl)
    room = ctypes.create_string_buffer(4096)

    def say():
        clear_errors()
        handshake(ssl)
        length = bio_read(outgoing, room, 4096)
        return room.raw[:length]

    sock.settimeout(10)
    sock.send(say())
    answer = sock.recv(4096)
    bio_write(incoming, answer, len(answer))
    hello = say()
    free_ssl(ssl)
    return hello


def line_of(session):
    got = b''
    while not got.endswith(b'\n'):
        data = session.receive(10)
        if data is None:
            return '%s after %d' % (session.state, len(got))
        got += data
    return got[:-1].decode() if len(got) < 200 else str(len(got) - 1)


class Talk:
    """Steps of one client, see above."""

    def __init__(self, host, port, options):
        self.host, self.port, self.options = host, port, options
        self.own = ('', int(options['from'])) if 'from' in options else None
        self.session = self.open()

    def open(self, resumed=None):
        options = self.options
        session = Session(self.port, self.host, int(options.get('mtu', 1400)), options.get('cert'), resumed, self.own)
        self.own = session.socket.getsockname()
        return session

    def shake(self, _):
        state = self.session.shake()
        print(state, 'resumed' if self.session.is_resumed() else 'new') if state == 'open' else print(state)

    def half(self, _):
        self.session.socket.send(begin(self.session.socket))
        self.session.socket.recv(4096)

    def doubled(self, _):
        hello = begin(self.session.socket)
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        other.connect((self.host, self.port))
        for sock in (other, self.session.socket):
            sock.settimeout(0.2)
            for _ in range(50):
                sock.send(hello)
            came = []
            try:
                while True:
                    came.append(len(sock.recv(4096)))
            except TimeoutError:
                pass
            if sock is other:
                print('other', came and max(came) < len(hello) and 'true')
            elif came:
                print('own')

    def ask(self, text):
        self.session.send(text.encode() + b'\n')
        print(line_of(self.session))

    def send(self, text):
        self.session.send(text.encode() + b'\n')

    def hex(self, text):
        self.session.socket.send(bytes.fromhex(text))

    def rest(self, _):
        total, last = 0, time.monotonic() + 20
        while self.session.state == 'open' and time.monotonic() < last:
            total += len(self.session.receive(last - time.monotonic()) or b'')
        print(total, self.session.state)

    def anew(self, _):
        self.session.close()
        self.session = self.open()

    def again(self, _):
        resumed = self.session.session()
        self.session.say_goodbye()
        self.session.receive(10)
        self.session.close()
        self.session = self.open(resumed)

    def wait(self, path):
        while not os.path.exists(path):
            self.session.socket.send(b'\x17\xfe\xfd' + bytes(40))
            time.sleep(0.01)


def talk(host, port, *words):
    words, options = list(words), {}
    while '=' in words[0].split(':')[0]:
        name, value = words.pop(0).split('=', 1)
        options[name] = value
    one = Talk(host, int(port), options)
    for word in words:
        name, _, text = word.partition(':')
        getattr(one, name)(text)
        sys.stdout.flush()


def crowd(*ports):
    sessions = [Session(int(port)) for port in ports]
    for session in sessions:
        session.step()
        session.answered = None
    last = time.monotonic() + 60
    while time.monotonic() < last:
        for session in sessions:
            if session.state == 'open' and session.answered is None:
                session.answered = False
                session.send(b'echo hello\n')
            elif session.state == 'open' and session.receive():
                session.answered = time.monotonic() - session.began
        if all(session.answered or session.state not in ('shaking', 'open') for session in sessions):
            break
        dues = [session.due() for session in sessions if session.state == 'shaking']
        ready = select.select(sessions, [], [], min((due for due in dues if due is not None), default=1))[0]
        for session in sessions:
            if session.state == 'shaking' and (session in ready or session.due() == 0):
                session.step()
    for session in sessions:
        print('%.2f' % session.answered if session.answered else session.state)


def flood(port, count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, int(count) + 100)), hard))
    sockets = []
    for _ in range(int(count)):
        sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sockets[-1].connect(('127.0.0.1', int(port)))
        sockets[-1].send(begin(sockets[-1]))
    print('there', flush=True)
    sys.stdin.read()


if __name__ == '__main__':
    {'talk': talk, 'crowd': crowd, 'flood': flood}[sys.argv[1]](*sys.argv[2:])
