//! Sidecars that share an account: what one does not need, another gets.
