//! Messages and services as they are made from `proto/`, and the descriptors that reflection serves.

/// Our own API: `tollgate.v1`.
pub mod tollgate {
    #![allow(
        clippy::all,
        clippy::too_many_lines,
        clippy::allow_attributes_without_reason,
        reason = "made by prost and tonic"
    )]
    tonic::include_proto!("tollgate.v1");

    /// What reflection tells. Envoy's service is not in it: ours is a trimmed view, and would pass for the whole.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tollgate.bin"));
}

/// The part of Envoy's dynamic metadata that is looked into.
pub mod envoy {
    #![allow(
        clippy::all,
        clippy::too_many_lines,
        clippy::allow_attributes_without_reason,
        reason = "made by prost and tonic"
    )]
    tonic::include_proto!("envoy.config.core.v3");
}
