//! Bytes on the wire: media headers, trunks, datagram kinds, signal framing.
