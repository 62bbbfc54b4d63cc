/* packet.c: see packet.h. */
#include "reactor/packet.h"

#include <string.h>

size_t sv_packet_write(unsigned char payload[SV_PACKET_MAX], const struct sv_port_rules *port, const struct sv_address *from,
                       const void *data, size_t length) {
    char text[SV_ADDRESS_TEXT_SIZE];
    struct sv_packet_head head = {.server_socket = port->listener_fd};
    sv_address_text(from, text, &head.peer_port);
    head.address_length = (uint32_t)strlen(text);
    memcpy(payload, &head, sizeof head);
    memcpy(payload + sizeof head, text, head.address_length);
    memcpy(payload + sizeof head + head.address_length, data, length);
    return sizeof head + head.address_length + length;
}
