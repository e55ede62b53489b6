//! The few kernel switches that a network needs, below `/proc/sys/net`. Read first and written only where they differ,
//! so that a host whose switches are right may have them read-only.

use std::io::ErrorKind;

use crate::network::NetworkError;

/// What every bridge of ours has: no IPv6 address of the host's own on it (guests have IPv4 from us, and would otherwise
/// reach the host, and it them, past all rules by link-local addresses), and no router of a guest's believed.
/// Reverse-path filtering stays as the host has it.
pub fn settle_bridge(bridge: &str) -> Result<(), NetworkError> {
    set_where_there(&format!("ipv6/conf/{bridge}/accept_ra"), "0")?;
    set_where_there(&format!("ipv6/conf/{bridge}/disable_ipv6"), "1")
}

/// Lets a bridge carry the host's loopback addresses, which a published port at 127.0.0.1 needs. The table's chain
/// `guard` keeps guests from using it.
pub fn set_route_localnet(bridge: &str, on: bool) -> Result<(), NetworkError> {
    set_where_there(&format!("ipv4/conf/{bridge}/route_localnet"), if on { "1" } else { "0" })
}

/// Lets the host forward IPv4. Never taken back: others on the host may have come to rely on it.
pub fn forward_ipv4() -> Result<(), NetworkError> {
    if set("ipv4/ip_forward", "1")? {
        tracing::info!("enabled IPv4 forwarding on this host: networks with NAT and published ports need it");
    }
    Ok(())
}

/// As [`set`]; a switch that is not there (no IPv6 in this kernel, the bridge is gone) needs no setting.
fn set_where_there(switch: &str, value: &str) -> Result<(), NetworkError> {
    if std::fs::exists(path(switch)).unwrap_or(false) { set(switch, value).map(|_| ()) } else { Ok(()) }
}

/// Whether it had to be written.
fn set(switch: &str, value: &str) -> Result<bool, NetworkError> {
    let path = path(switch);
    let failed = |e: std::io::Error| match e.kind() {
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
            NetworkError::Unsupported(format!("{path} must be {value} and cannot be written ({e})"))
        }
        _ => NetworkError::Failed { step: format!("setting {path}"), detail: e.to_string() },
    };
    if std::fs::read_to_string(&path).map_err(failed)?.trim() == value {
        return Ok(false);
    }
    std::fs::write(&path, value).map_err(failed)?;
    Ok(true)
}

fn path(switch: &str) -> String {
    format!("/proc/sys/net/{switch}")
}
