//! Failure policies, each while Redis is away.
