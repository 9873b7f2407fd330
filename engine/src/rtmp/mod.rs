//! RTMP, server and client half, as machines without a socket.
