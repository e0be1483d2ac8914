//! The control plane of Weir.
