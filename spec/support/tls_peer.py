"""TLS server for specs: tls_peer.py CERT KEY MANNER. Prints `port N`, then a line `handshake NAME new|resumed VERSION`, or
`handshake failed`, for each connection. Manners:

  echo      sends back what comes
  drip      sends back what comes, each byte in a record and a packet of its own
  cut       ends the connection without close_notify after the first bytes
  silent    accepts and says nothing, not even of TLS
  old       speaks TLS 1.1 at most
  hang_up   closes in the middle of the handshake
"""
import socket, ssl, sys, threading

cert, key, manner = sys.argv[1:4]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
names = {}
context.sni_callback = lambda conn, name, _: names.__setitem__(conn, name)
if manner == 'old':
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    context.set_ciphers('ALL:@SECLEVEL=0')


def say(*words):
    print(*words, flush=True)


def serve(plain):
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if manner == 'silent':
        plain.recv(65536)
        threading.Event().wait()
    if manner == 'hang_up':
        plain.recv(20)
        plain.close()
        return
    try:
        conn = context.wrap_socket(plain, server_side=True)
    except (ssl.SSLError, OSError):
        say('handshake failed')
        return
    say('handshake', names.get(conn) or 'none', 'resumed' if conn.session_reused else 'new', conn.version())
    try:
        while True:
            data = conn.recv(65536)
            if not data:
                break
            if manner == 'drip':
                for i in range(len(data)):
                    conn.send(data[i:i + 1])
            else:
                conn.sendall(data)
            if manner == 'cut':
                break
        if manner != 'cut':
            conn.unwrap()
    except (ssl.SSLError, OSError):
        pass
    conn.close()


listener = socket.create_server(('127.0.0.1', 0), backlog=128)
say('port', listener.getsockname()[1])
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
