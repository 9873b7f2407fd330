//! Touches the kernel and the neighbour core; the only room with unsafe code. Never sees a frame.
