//! The rules of one breaker: `trip`, `open`, `halfOpen`, `timeoutSeconds` and `force` of the kind.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Outcome;
use super::window::Tally;
use crate::retry::part;

/// Most entries of `trip.failureStatuses`.
pub const MOST_STATUSES: usize = 50;

/// The rules of one breaker. Every field has a default; [`BreakerConfig::validate`] has the bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// What opens it.
    pub trip: TripConfig,
    /// How long it stays open.
    pub open: OpenConfig,
    /// What closes it again.
    pub half_open: HalfOpenConfig,
    /// The longest a call may take, seconds; after it the call has failed. 1 to 43200, default 10.
    pub timeout_seconds: u32,
    /// What a person decided: `Open`, `Closed`, or empty for the rules.
    pub force: Force,
}

/// What opens a breaker: any of three conditions. At least one must be in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TripConfig {
    /// Share of failed calls in the window, in percent, at which it opens. 0 to 100, 0 = not judged,
    /// default 50.
    pub failure_percent: u32,
    /// Share of slow calls in the window, in percent, at which it opens. 0 to 100, 0 = not judged,
    /// default 100.
    pub slow_percent: u32,
    /// A call that takes this long or longer is slow, seconds, whatever its outcome. 1 to 43200,
    /// default 2.
    pub slow_seconds: u32,
    /// With fewer calls in the window no share is judged. Over all replicas. 1 to 1000000, default
    /// 20.
    pub minimum_calls: u32,
    /// Length of the window, seconds. 1 to 3600, default 30.
    pub window_seconds: u32,
    /// Failures in a row, in one replica, at which it opens, however few calls there were. 0 to
    /// 1000000, 0 = not judged, default 0.
    pub consecutive_failures: u32,
    /// Statuses that are failures: a status (`429`) or a class (`5xx`). No connection and no answer
    /// in time always are. At most 50, default `429` and `5xx`.
    pub failure_statuses: Vec<String>,
}

/// How long a breaker stays open before probes are let through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OpenConfig {
    /// The first time, seconds. 1 to 86400, default 10.
    pub initial_seconds: u32,
    /// How much longer it is after each failed round of probes. 1 to 100, default 2.
    pub multiplier: u32,
    /// The longest, seconds, and not less than `initialSeconds`. 1 to 86400, default 300.
    pub max_seconds: u32,
    /// The most that chance takes off, in percent, so that many breakers do not probe together. 0 to
    /// 50, default 10.
    pub jitter_percent: u32,
}

/// What closes an open breaker again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HalfOpenConfig {
    /// Most probes at once, over all replicas. 1 to 100, default 3.
    pub probes: u32,
    /// Probes that must succeed; the first that fails opens it again. 1 to 1000, default 3.
    pub successes: u32,
}

/// What a person decided about a breaker. It wins over everything that was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Force {
    /// The rules decide.
    #[default]
    #[serde(rename = "")]
    Automatic,
    /// Every call is refused, none is a probe.
    Open,
    /// Every call passes, none is counted.
    Closed,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            trip: TripConfig::default(),
            open: OpenConfig::default(),
            half_open: HalfOpenConfig::default(),
            timeout_seconds: 10,
            force: Force::Automatic,
        }
    }
}

impl Default for TripConfig {
    fn default() -> Self {
        Self {
            failure_percent: 50,
            slow_percent: 100,
            slow_seconds: 2,
            minimum_calls: 20,
            window_seconds: 30,
            consecutive_failures: 0,
            failure_statuses: vec!["429".to_owned(), "5xx".to_owned()],
        }
    }
}

impl Default for OpenConfig {
    fn default() -> Self {
        Self {
            initial_seconds: 10,
            multiplier: 2,
            max_seconds: 300,
            jitter_percent: 10,
        }
    }
}

impl Default for HalfOpenConfig {
    fn default() -> Self {
        Self {
            probes: 3,
            successes: 3,
        }
    }
}

/// Why a configuration is refused, with what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A number is outside its bounds.
    #[error("{field} is {given}; write a number from {least} to {greatest}")]
    ExceedBounds {
        /// Path of the field below `spec`.
        field: &'static str,
        /// What it is.
        given: u32,
        /// What it must be at least.
        least: u32,
        /// What it must be at most.
        greatest: u32,
    },
    /// The longest open time is shorter than the first.
    #[error(
        "open.maxSeconds is {max} and open.initialSeconds is {initial}; write an open.maxSeconds of at \
         least {initial}, or an open.initialSeconds of at most {max}"
    )]
    ShrinkOpenTime {
        /// `open.initialSeconds`.
        initial: u32,
        /// `open.maxSeconds`.
        max: u32,
    },
    /// A status is neither a number nor a class.
    #[error(
        "trip.failureStatuses has {given:?}; write a status from \"100\" to \"599\" or a class from \
         \"1xx\" to \"5xx\""
    )]
    MisspellStatus {
        /// What it is, cut after 20 characters.
        given: String,
    },
    /// The list of statuses is too long.
    #[error(
        "trip.failureStatuses has {given} entries; write at most {MOST_STATUSES}, with classes such as \
         \"5xx\" for many"
    )]
    ListTooManyStatuses {
        /// How many there are.
        given: usize,
    },
    /// No condition is in use, so it would never open.
    #[error(
        "trip.failurePercent, trip.slowPercent and trip.consecutiveFailures are all 0, so nothing would \
         open the breaker; write at least one of them, or force: Closed to let every call through"
    )]
    TripNever,
}

impl BreakerConfig {
    /// Everything that is wrong with it, in the order of the fields.
    pub fn validate(&self) -> Result<(), Vec<ConfigError>> {
        let trip = &self.trip;
        let bounds = [
            ("trip.failurePercent", trip.failure_percent, 0, 100),
            ("trip.slowPercent", trip.slow_percent, 0, 100),
            ("trip.slowSeconds", trip.slow_seconds, 1, 43_200),
            ("trip.minimumCalls", trip.minimum_calls, 1, 1_000_000),
            ("trip.windowSeconds", trip.window_seconds, 1, 3_600),
            (
                "trip.consecutiveFailures",
                trip.consecutive_failures,
                0,
                1_000_000,
            ),
            ("open.initialSeconds", self.open.initial_seconds, 1, 86_400),
            ("open.multiplier", self.open.multiplier, 1, 100),
            ("open.maxSeconds", self.open.max_seconds, 1, 86_400),
            ("open.jitterPercent", self.open.jitter_percent, 0, 50),
            ("halfOpen.probes", self.half_open.probes, 1, 100),
            ("halfOpen.successes", self.half_open.successes, 1, 1_000),
            ("timeoutSeconds", self.timeout_seconds, 1, 43_200),
        ];
        let mut wrong: Vec<_> = bounds
            .into_iter()
            .filter(|&(_, given, least, greatest)| !(least..=greatest).contains(&given))
            .map(
                |(field, given, least, greatest)| ConfigError::ExceedBounds {
                    field,
                    given,
                    least,
                    greatest,
                },
            )
            .collect();
        if self.open.max_seconds < self.open.initial_seconds {
            wrong.push(ConfigError::ShrinkOpenTime {
                initial: self.open.initial_seconds,
                max: self.open.max_seconds,
            });
        }
        if trip.failure_statuses.len() > MOST_STATUSES {
            wrong.push(ConfigError::ListTooManyStatuses {
                given: trip.failure_statuses.len(),
            });
        }
        wrong.extend(
            trip.failure_statuses
                .iter()
                .take(MOST_STATUSES)
                .filter_map(|status| status.parse::<Statuses>().err()),
        );
        if trip.failure_percent == 0 && trip.slow_percent == 0 && trip.consecutive_failures == 0 {
            wrong.push(ConfigError::TripNever);
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// The statuses that are failures. Entries that [`BreakerConfig::validate`] refuses match nothing.
    pub fn failure_statuses(&self) -> Statuses {
        self.trip
            .failure_statuses
            .iter()
            .filter_map(|status| status.parse::<Statuses>().ok())
            .fold(Statuses::default(), Statuses::or)
    }

    /// True if a call that took this long is slow. Always false if slow calls are not judged.
    pub fn is_slow(&self, took: Duration) -> bool {
        self.trip.slow_percent > 0 && took >= Duration::from_secs(self.trip.slow_seconds.into())
    }

    /// Which share in the window opens the breaker, if one does.
    pub fn breach(&self, window: Tally) -> Option<super::Reason> {
        let reached = |part: u64, percent: u32| {
            percent > 0 && u128::from(part) * 100 >= u128::from(percent) * u128::from(window.calls)
        };
        let trip = &self.trip;
        if window.calls < u64::from(trip.minimum_calls.max(1)) {
            None
        } else if reached(window.failures, trip.failure_percent) {
            Some(super::Reason::FailureRate)
        } else if reached(window.slow, trip.slow_percent) {
            Some(super::Reason::SlowRate)
        } else {
            None
        }
    }

    /// The open time of the `opens`-th opening in a row (1 or more; 0 counts as 1).
    ///
    /// Uniform in `[d - d * jitterPercent / 100, d]` by `random` (in `0.0..1.0`; anything else counts
    /// as the nearest bound, NaN as 0), where `d = min(maxSeconds, initialSeconds *
    /// multiplier^(opens-1))`, in milliseconds. No input overflows.
    pub fn open_time(&self, opens: u32, random: f64) -> Duration {
        let growth =
            u128::from(self.open.multiplier.max(1)).saturating_pow(opens.max(1).saturating_sub(1));
        let seconds = u128::from(self.open.initial_seconds)
            .saturating_mul(growth)
            .min(u128::from(self.open.max_seconds));
        let longest = Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX));
        let most_off = longest * self.open.jitter_percent.min(100) / 100;
        longest.saturating_sub(part(most_off, random))
    }

    /// The longest a call may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.into())
    }
}

/// A set of HTTP statuses, 0 to 599.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statuses([u64; 10]);

impl Statuses {
    /// What a call that was answered with this status is.
    pub fn judge(&self, status: u16) -> Outcome {
        if self.contains(status) {
            Outcome::Failed
        } else {
            Outcome::Succeeded
        }
    }

    /// True if the set has it.
    pub fn contains(&self, status: u16) -> bool {
        self.0
            .get(usize::from(status / 64))
            .is_some_and(|word| word & (1 << (status % 64)) != 0)
    }

    fn or(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }
}

impl FromStr for Statuses {
    type Err = ConfigError;

    /// One status, `429`, or one class, `5xx`; the x may be capital.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let statuses = match *text.as_bytes() {
            [class @ b'1'..=b'5', b'x' | b'X', b'x' | b'X'] => {
                let first = u16::from(class - b'0') * 100;
                first..first + 100
            }
            [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9'] => {
                let status = text
                    .bytes()
                    .fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
                status..status + 1
            }
            _ => {
                return Err(ConfigError::MisspellStatus {
                    given: text.chars().take(20).collect(),
                });
            }
        };
        let mut set = Self::default();
        for status in statuses {
            set.0[usize::from(status / 64)] |= 1 << (status % 64);
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests;
