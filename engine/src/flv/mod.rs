//! FLV tags, both ways: the container of HTTP-FLV and the payload of RTMP messages.
