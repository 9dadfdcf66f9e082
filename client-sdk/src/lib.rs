//! The WZP client: calls over one UDP socket.
