//! The ops API in a cluster: `weir_ops` over what the operator knows, for users of the cluster.
//!
//! Users come through the API server's proxy of the operator's Service, with their own token in the
//! header `weir-authorization` (the proxy keeps `authorization` for itself). The operator has no
//! rights to lend: it asks the API server who that is (`TokenReview`) and whether they may
//! (`SubjectAccessReview` on `webhooks/deadletters` and the like), so that roles decide who reads
//! payloads. Why not a port-forward: its right is to every port of every pod of the namespace. Why
//! not an aggregated API: one that does not answer holds up the deletion of every namespace.
//!
//! Tokens are never logged and never kept, only their hash is, for seconds.

mod directory;
mod guard;
mod serve;

pub use guard::ClusterGuard;
pub use serve::{OpsListener, self_signed, serve};
