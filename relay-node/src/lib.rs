//! The WZP relay: forwards sealed media between the members of a room.
