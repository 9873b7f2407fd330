//! The HTTP door: requests, the FLV streams that answer them, WebSocket, and the page that plays.
