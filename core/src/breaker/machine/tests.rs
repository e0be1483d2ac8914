use super::*;

mod alone;
mod rules;
mod shared;

/// Runs one breaker and keeps what it said.
struct Shell {
    breaker: Breaker,
    now: u64,
    calls: u64,
    random: f64,
}

impl Shell {
    fn new(breaker: Breaker) -> Self {
        Self {
            breaker,
            now: 1_800_000_000_000,
            calls: 0,
            random: 0.0,
        }
    }

    fn alone(config: BreakerConfig) -> Self {
        Self::new(Breaker::alone(config))
    }

    /// A replica whose store is empty and answers.
    fn shared(config: BreakerConfig) -> Self {
        let mut shell = Self::new(Breaker::shared(config, "a", 1));
        assert_eq!(shell.step(Event::Stored(None)), []);
        shell
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        let now = Moment::from_millis(self.now);
        self.breaker.step(event, now, self.random)
    }

    fn wait(&mut self, millis: u64) -> Vec<Effect> {
        self.now += millis;
        self.step(Event::Tick)
    }

    fn ask(&mut self) -> Vec<Effect> {
        self.calls += 1;
        self.step(Event::Call { call: self.calls })
    }

    /// A call that is let through at once.
    fn begin(&mut self) -> Ticket {
        ticket(&self.ask()).expect("admitted")
    }

    fn end(&mut self, ticket: Ticket, outcome: Outcome) -> Vec<Effect> {
        self.step(Event::Ended { ticket, outcome })
    }

    fn calls(&mut self, outcome: Outcome, times: usize) -> Vec<Effect> {
        (0..times)
            .flat_map(|_| {
                let ticket = self.begin();
                self.end(ticket, outcome)
            })
            .collect()
    }

    fn fail(&mut self, times: usize) -> Vec<Effect> {
        self.calls(Outcome::Failed, times)
    }

    fn succeed(&mut self, times: usize) -> Vec<Effect> {
        self.calls(Outcome::Succeeded, times)
    }

    fn refusal(&mut self) -> Duration {
        match *self.ask() {
            [Effect::Refuse { retry_after, .. }] => retry_after,
            ref other => panic!("{other:?}"),
        }
    }

    fn state(&self) -> State {
        self.breaker.state()
    }

    /// Lets the store take what was proposed.
    fn accept(&mut self, effects: &[Effect]) -> Vec<Effect> {
        let (_, record) = proposal(effects).expect("a proposal");
        self.step(Event::Accepted {
            version: record.version,
        })
    }
}

fn ticket(effects: &[Effect]) -> Option<Ticket> {
    effects.iter().find_map(|effect| match effect {
        Effect::Admit { ticket, .. } => Some(*ticket),
        _ => None,
    })
}

fn proposal(effects: &[Effect]) -> Option<(u64, Record)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Propose { expected, record } => Some((*expected, record.clone())),
        _ => None,
    })
}

fn published(effects: &[Effect]) -> Option<Delta> {
    effects.iter().find_map(|effect| match effect {
        Effect::Publish(delta) => Some(delta.clone()),
        _ => None,
    })
}

fn became(effects: &[Effect]) -> Vec<(State, Reason)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Became { state, reason } => Some((*state, *reason)),
            _ => None,
        })
        .collect()
}

fn plain() -> BreakerConfig {
    let mut config = BreakerConfig::default();
    config.trip.minimum_calls = 4;
    config.open.jitter_percent = 0;
    config
}

fn row(consecutive_failures: u32) -> BreakerConfig {
    let mut config = plain();
    config.trip.failure_percent = 0;
    config.trip.consecutive_failures = consecutive_failures;
    config
}
