"""TLS client for specs: tls_talk.py PORT [NAME=VALUE…] STEP…  Prints a line for each step that has something to tell.

Options: cert, key (files) · name (server name) · alpn (a,b) · cut (bytes in a packet at most, the handshake's too) · slow (small buffers)
Steps:
  shake          the handshake: `VERSION ALPN new|resumed COMMON_NAME`, or `failed REASON`, which ends the program
  ask:TEXT       sends TEXT and a line feed, and prints the line that comes
  send:TEXT      sends TEXT and a line feed
  lines:COUNT    COUNT lines of 1000 bytes, and waits until the other side's kernel has them
  tiny:COUNT     COUNT records with one byte each, in one packet: a, b, … and a line feed at last
  bad:TEXT       TEXT and a line feed as a record, and behind it in the same packet one with a false MAC
  hex:BYTES      sends bytes past TLS
  flip           the same as ask:x, with a false MAC, and no answer is read
  rest           reads to the end: `BYTES SHA1 notified|cut|reset|alert`
  unwrap         says close_notify, reads to the end: as `rest`
  fin            ends the own side without close_notify
  again          leaves and connects again with the session
  wait:PATH      goes on when the file is there
  touch:PATH     makes the file
  raw_rest       reads to the end past TLS: `ended` or `reset`
  hello          sends the ClientHello only; hello:answered: and waits for what the server says to it
"""
import fcntl, hashlib, os, re, socket, ssl, sys, termios, time

port, rest = int(sys.argv[1]), sys.argv[2:]
options = {}
while rest and '=' in rest[0].split(':')[0]:
    key, value = rest.pop(0).split('=', 1)
    options[key] = value

context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
if 'cert' in options:
    context.load_cert_chain(options['cert'], options['key'])
if 'alpn' in options:
    context.set_alpn_protocols(options['alpn'].split(','))


class Connection:
    def __init__(self, session=None):
        self.sock = socket.socket()
        self.sock.settimeout(20)
        if 'slow' in options:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.connect(('127.0.0.1', port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=options.get('name'), session=session)
        self.lines = b''

    def push(self):
        data, size = self.outgoing.read(), int(options.get('cut', 1 << 20))
        try:
            for at in range(0, len(data), size):
                self.sock.sendall(data[at:at + size])
        except BrokenPipeError:
            pass  # what it would have said about the end of the other side

    def pull(self):
        data = self.sock.recv(65536)
        self.incoming.write(data) if data else self.incoming.write_eof()

    def until(self, call, *arguments):
        while True:
            try:
                return call(*arguments)
            except ssl.SSLWantReadError:
                self.push()
                self.pull()
            finally:
                self.push()

    def line(self):
        while b'\n' not in self.lines:
            data = self.until(self.tls.read, 65536)
            if not data:
                return 'the end'
            self.lines += data
        line, self.lines = self.lines.split(b'\n', 1)
        return line.decode()

    def send(self, text):
        self.tls.write(text.encode() + b'\n')
        self.push()

    def to_end(self):
        count, digest = len(self.lines), hashlib.sha1(self.lines)
        try:
            while True:
                data = self.until(self.tls.read, 65536)
                if not data:
                    ending = 'notified'
                    break
                count += len(data)
                digest.update(data)
        except ssl.SSLZeroReturnError:
            ending = 'notified'
        except ssl.SSLEOFError:
            ending = 'cut'
        except ConnectionResetError:
            ending = 'reset'
        except ssl.SSLError as problem:
            ending = 'alert' if 'ALERT' in str(problem).upper() else repr(problem)
        return '%d %s %s' % (count, digest.hexdigest(), ending)


def say(*words):
    print(*words, flush=True)


def common_name(der):
    names = re.findall(rb'\x06\x03\x55\x04\x03.(.)(.*)', der, re.S)
    length, text = names[-1]
    return text[:length[0]].decode()


conn = Connection()
for step in rest:
    what, _, text = step.partition(':')
    if what == 'shake':
        try:
            conn.until(conn.tls.do_handshake)
        except (ssl.SSLError, OSError) as problem:
            say('failed', problem)
            break
        tls = conn.tls
        say(tls.version(), tls.selected_alpn_protocol(), 'resumed' if tls.session_reused else 'new', common_name(tls.getpeercert(True)))
    elif what == 'ask':
        conn.send(text)
        say(conn.line())
    elif what == 'send':
        conn.send(text)
    elif what == 'lines':
        for i in range(int(text)):
            conn.tls.write(b'x' * 999 + b'\n')
        conn.push()
        while fcntl.ioctl(conn.sock, termios.TIOCOUTQ, bytes(4)) != bytes(4):
            time.sleep(0.005)
    elif what == 'tiny':
        for i in range(int(text) - 1):
            conn.tls.write(bytes([97 + i % 26]))
        conn.send('')
        say(conn.line())
    elif what in ('bad', 'flip'):
        if what == 'bad':
            conn.tls.write(text.encode() + b'\n')
        good = conn.outgoing.read()
        conn.tls.write(b'x\n')
        false = bytearray(conn.outgoing.read())
        false[-1] ^= 1
        conn.sock.sendall(good + bytes(false))
    elif what == 'hex':
        conn.sock.sendall(bytes.fromhex(text))
    elif what == 'hello':
        try:
            conn.tls.do_handshake()
        except ssl.SSLWantReadError:
            conn.push()
        if step == 'hello:answered':
            conn.sock.recv(1, socket.MSG_PEEK)
    elif what == 'rest':
        say(conn.to_end())
    elif what == 'unwrap':
        try:
            conn.tls.unwrap()
        except ssl.SSLWantReadError:
            conn.push()
        say(conn.to_end())
    elif what == 'raw_rest':
        try:
            while conn.sock.recv(65536):
                pass
            say('ended')
        except ConnectionResetError:
            say('reset')
    elif what == 'touch':
        open(text, 'w').close()
    elif what == 'wait':
        while not os.path.exists(text):
            time.sleep(0.005)
    elif what == 'fin':
        conn.sock.shutdown(socket.SHUT_WR)
    elif what == 'again':
        session = conn.tls.session
        conn.sock.close()
        conn = Connection(session)
