//! The circuit breaker: when calls to one target stop, and when they are tried again.
