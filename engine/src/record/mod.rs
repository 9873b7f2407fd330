//! Recording: frames to fragments of at most one second, fragments to aligned blocks.
