"""Relays datagrams between clients and a server on loopback, as a bad network would:

  udp_relay.py PORT COUNT SEED LOSE DOUBLE SWAP [all] [merciful]

COUNT ports, each for one client, and each with random numbers of its own that follow from SEED: what happens to the nth datagram of a
direction is the same in every run. LOSE, DOUBLE and SWAP are per cent. Only datagrams of handshakes suffer, unless `all` is said: what a
client says after its handshake shows that it has ended. `merciful`: never loses two in a row. Prints `ports N…`; at SIGTERM what it did: `lost N doubled N swapped N passed N`.
"""
import random, selectors, signal, socket, sys, time

HANDSHAKE_TYPES = (20, 22)  # ChangeCipherSpec, handshake; of a datagram's first record
HOLD = 0.05                 # seconds after which a datagram that nothing overtook goes on

server = ('127.0.0.1', int(sys.argv[1]))
count, seed = int(sys.argv[2]), sys.argv[3]
lose, double, swap = (float(word) / 100 for word in sys.argv[4:7])
spares_data, is_merciful = 'all' not in sys.argv[7:], 'merciful' in sys.argv[7:]
did = dict(lost=0, doubled=0, swapped=0, passed=0)


class Way:
    """One direction of one client."""

    def __init__(self, name, send):
        self.random, self.send = random.Random(name), send
        self.held, self.until, self.has_lost = None, 0, False

    def release(self):
        data, self.held = self.held, None
        if data is not None:
            self.send(data)

    def carry(self, data):
        if spares_data and (not data or data[0] not in HANDSHAKE_TYPES):
            self.send(data)
            return
        fate, other = self.random.random(), self.random.random()
        self.has_lost = fate < lose and not (is_merciful and self.has_lost)
        if self.has_lost:
            did['lost'] += 1
            return
        if other < swap and self.held is None:
            did['swapped'] += 1
            self.held, self.until = data, time.monotonic() + HOLD
            return
        did['passed'] += 1
        self.send(data)
        if other > 1 - double:
            did['doubled'] += 1
            self.send(data)
        self.release()


class Client:
    def __init__(self, number):
        self.near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.near.bind(('127.0.0.1', 0))
        self.far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.far.connect(server)
        self.address = None
        self.out = Way('%s/%d/out' % (seed, number), self.far.send)
        self.back = Way('%s/%d/in' % (seed, number), lambda data: self.near.sendto(data, self.address))

    def take(self, sock):
        try:
            if sock is self.near:
                data, self.address = sock.recvfrom(65536)
                self.out.carry(data)
            else:
                self.back.carry(sock.recv(65536))
        except ConnectionError:
            pass  # nobody is there, or not any more


def stop(*_):
    print(' '.join('%s %d' % item for item in did.items()), flush=True)
    sys.exit()


signal.signal(signal.SIGTERM, stop)
clients = [Client(number) for number in range(count)]
selector = selectors.DefaultSelector()
for client in clients:
    selector.register(client.near, selectors.EVENT_READ, client)
    selector.register(client.far, selectors.EVENT_READ, client)
print('ports', *(client.near.getsockname()[1] for client in clients), flush=True)
while True:
    for key, _ in selector.select(HOLD / 2):
        key.data.take(key.fileobj)
    now = time.monotonic()
    for client in clients:
        for way in (client.out, client.back):
            if way.held is not None and way.until <= now:
                way.release()
