//! Which servers can keep the guarantees.

use crate::error::BrokerError;

/// The oldest series: the first whose queues take a delivery limit of "none" and whose streams and
/// quorum queues are all that is left.
const OLDEST: (u32, u32) = (4, 0);

/// Refuses servers that are too old, with what to do.
pub(crate) fn check(version: &str) -> Result<(), BrokerError> {
    let mut numbers = version.split('.').map(|part| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    });
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found >= OLDEST {
        return Ok(());
    }
    Err(BrokerError::Unsupported {
        server: format!("rabbitmq {version}"),
        why: "Weir needs RabbitMQ 4.0 or newer; upgrade the cluster".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_before_4_0_are_refused() {
        for refused in ["3.13.7", "3.10.8", "3.8", "", "garbage", "0.9"] {
            let error = check(refused).unwrap_err();
            assert_eq!(error.reason(), "BrokerUnsupported");
            assert!(error.to_string().contains("4.0"), "{error}");
        }
        for taken in ["4.0.5", "4.3.6", "4.0", "4.4.0-rc.1", "5.0.0", "10.1"] {
            check(taken).unwrap();
        }
    }
}
