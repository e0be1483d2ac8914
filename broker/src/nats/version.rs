//! Which servers can keep the guarantees.

use crate::error::BrokerError;

/// JetStream API level that has message schedules and atomic batches.
const LEVEL: u32 = 2;

/// Refuses a server that would ignore what it is asked for. Servers before 2.12 answer "ok" to
/// configuration that they do not know.
pub(crate) fn check(version: &str, level: u32) -> Result<(), BrokerError> {
    if level >= LEVEL && at_least(version, (2, 12)) {
        return Ok(());
    }
    Err(BrokerError::Unsupported {
        server: format!("nats-server {version} (JetStream API level {level})"),
        why: "durable retries and deduplication need nats-server 2.12 or newer on every server; \
              upgrade the servers"
            .to_owned(),
    })
}

/// A version that cannot be read is left to the API level.
fn at_least(version: &str, wanted: (u32, u32)) -> bool {
    let mut parts = version.split(['.', '-']).map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= wanted,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_before_2_12_are_refused_with_what_was_found() {
        for (version, level) in [("2.10.26", 0), ("2.11.11", 1), ("2.12.0", 1), ("2.11.0", 3)] {
            let error = check(version, level).unwrap_err().to_string();
            assert!(
                error.contains(version) && error.contains("upgrade"),
                "{error}"
            );
        }
        for (version, level) in [
            ("2.12.0", 2),
            ("2.15.1", 5),
            ("3.0.0-beta.1", 9),
            ("main", 5),
        ] {
            assert!(check(version, level).is_ok(), "{version}");
        }
    }
}
