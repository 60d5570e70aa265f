//! Everything that speaks HTTP; knows names, SDP text and sessions, no packets.
