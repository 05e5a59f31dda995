//! d
pub mod yaml;
