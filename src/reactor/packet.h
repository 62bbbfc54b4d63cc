/* packet.h: a datagram as it travels to a worker: struct sv_packet_head, the sender's address as text, the bytes.
 * runs in: whoever reads datagrams. */
#ifndef SV_REACTOR_PACKET_H
#define SV_REACTOR_PACKET_H

#include "reactor/reactor.h"

#define SV_PACKET_MAX (sizeof(struct sv_packet_head) + SV_ADDRESS_TEXT_SIZE + SV_READ_MAX)

/* Writes the payload of a PACKET record; returns its length. `length` is at most SV_READ_MAX. */
size_t sv_packet_write(unsigned char payload[SV_PACKET_MAX], const struct sv_port_rules *port, const struct sv_address *from,
                       const void *data, size_t length);

#endif
