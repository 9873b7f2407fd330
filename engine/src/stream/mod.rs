//! One stream: numbering, the kept group, wire logs of blocks, the policy for slow viewers.
