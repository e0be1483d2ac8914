//! The tokens that one consumer, or the permits of one process, hold.
//!
//! A token is held unacknowledged: when the connection ends, so does the right, and the broker gives
//! the token to somebody else. Tokens are taken before messages are asked for, kept while there is use
//! for them, and given back when there is none.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::message::Delivery;
use tokio::sync::Notify;
use tokio::time::Instant;
use weir_core::wire;

use super::codec::Raw;
use super::connection::{Connection, Failure, Live};
use super::control::{Control, Record, Verdict, Which};
use super::lanes::Settle;
use super::pulls::Pulls;
use super::tail::Tail;

/// How long a token that nobody needs is kept for whoever needs one next.
const GRACE: Duration = Duration::from_millis(100);
/// How long an idle token is kept before somebody else may have it.
const ROTATION: Duration = Duration::from_secs(5);

/// Header of a token with its serial number.
pub(crate) const SERIAL: &str = "weir-token";

/// The body of a token is nothing; this is its header.
pub(crate) fn token(serial: u64) -> Vec<(String, String)> {
    vec![
        (SERIAL.to_owned(), serial.to_string()),
        (wire::ID.to_owned(), format!("token-{serial}")),
    ]
}

/// What is held and what it is used for. All numbers but `held` count messages.
#[derive(Clone, Copy, Debug, Default)]
struct Balance {
    /// Tokens.
    held: usize,
    /// Messages per token.
    worth: usize,
    /// In use: asked for, or delivered and not settled.
    committed: usize,
    /// Wanted beyond that.
    wanted: usize,
    /// Delivered and not settled.
    flying: usize,
    /// There are more tokens than there shall be: nothing begins until enough of them are gone.
    surplus: bool,
}

impl Balance {
    fn tokens_for(self, messages: usize) -> usize {
        messages.div_ceil(self.worth.max(1))
    }

    /// Tokens without which nothing that is in use would be uncovered.
    fn idle(self) -> usize {
        self.held.saturating_sub(self.tokens_for(self.committed))
    }

    /// How much of what is wanted could be in use beside what is.
    fn covered(self) -> usize {
        if self.surplus {
            return 0;
        }
        let worth = self.held * self.worth.max(1);
        worth.saturating_sub(self.committed).min(self.wanted)
    }

    /// Tokens that there is use for.
    fn demand(self) -> usize {
        self.tokens_for(self.committed + self.wanted)
    }
}

/// Shared between the pool and who uses its tokens.
#[derive(Default)]
pub(crate) struct Account {
    balance: Mutex<Balance>,
    /// Something can be committed now.
    pub(crate) gained: Notify,
    /// The demand changed.
    asked: Notify,
}

impl Account {
    fn balance(&self) -> MutexGuard<'_, Balance> {
        self.balance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how much is wanted beyond what is committed.
    pub(crate) fn want(&self, messages: usize) {
        let mut balance = self.balance();
        if balance.wanted != messages {
            balance.wanted = messages;
            drop(balance);
            self.asked.notify_one();
        }
    }

    /// How much of what is wanted the tokens cover.
    pub(crate) fn covered(&self) -> usize {
        self.balance().covered()
    }

    /// Takes as much of what is wanted as the tokens cover.
    pub(crate) fn commit(&self, most: usize) -> usize {
        let mut balance = self.balance();
        let taken = balance.covered().min(most);
        balance.committed += taken;
        balance.wanted -= taken;
        taken
    }

    /// Whether nothing may begin, because there are more tokens than there shall be, or more in use than those that are
    /// held cover since they are worth less.
    pub(crate) fn is_over(&self) -> bool {
        let balance = self.balance();
        balance.surplus || balance.committed > balance.held * balance.worth.max(1)
    }

    /// Says how many are delivered and not settled.
    pub(crate) fn fly(&self, messages: usize) {
        self.balance().flying = messages;
    }

    /// Tokens that are held, and messages that are delivered and not settled.
    pub(crate) fn held(&self) -> (u64, u64) {
        let balance = self.balance();
        (balance.held as u64, balance.flying as u64)
    }

    /// Ends the use of so many.
    pub(crate) fn release(&self, messages: usize) {
        if messages > 0 {
            let mut balance = self.balance();
            balance.committed = balance.committed.saturating_sub(messages);
            drop(balance);
            self.asked.notify_one();
            self.gained.notify_one();
        }
    }
}

struct Token {
    serial: u64,
    tag: u64,
    since: Instant,
}

/// Takes and gives tokens on one connection.
pub(crate) struct Pool {
    connection: Connection,
    live: Arc<Live>,
    control: Arc<Tail<Control>>,
    which: Which,
    account: Arc<Account>,
    pulls: Pulls,
    tokens: Vec<Token>,
    /// Tokens whose minting is not recorded yet.
    waiting: Vec<Token>,
    /// Since when there are more than are needed.
    spare_since: Option<Instant>,
}

impl Pool {
    pub(crate) async fn open(
        connection: Connection,
        live: Arc<Live>,
        control: Arc<Tail<Control>>,
        which: Which,
        queue: &str,
        account: Arc<Account>,
    ) -> Result<Self, Failure> {
        let pulls = Pulls::open(Arc::clone(&live), queue).await?;
        Ok(Self {
            connection,
            live,
            control,
            which,
            account,
            pulls,
            tokens: Vec::new(),
            waiting: Vec::new(),
            spare_since: None,
        })
    }

    /// Works until the connection or the queue ends.
    pub(crate) async fn run(mut self) -> Failure {
        let Err(failure) = self.work().await;
        self.account.balance().held = 0;
        failure
    }

    async fn work(&mut self) -> Result<Infallible, Failure> {
        let mut changes = self.control.changes();
        loop {
            self.judge_waiting().await?;
            self.follow_limit().await?;
            let wake = self.balance_out().await?;
            tokio::select! {
                delivery = self.pulls.next() => {
                    let delivery = delivery?;
                    self.take(&delivery).await?;
                }
                () = self.account.asked.notified() => {}
                () = changes.next() => {
                    if changes.is_missing() {
                        return Err(Failure::Missing);
                    }
                }
                () = tokio::time::sleep_until(wake) => {}
                () = self.live.lost.cancelled() => return Err(self.connection.unreachable().into()),
            }
        }
    }

    /// Takes in a token that came, and all that came with it.
    async fn take(&mut self, delivery: &Delivery) -> Result<(), Failure> {
        let raw = Raw::new(
            &delivery.properties,
            Vec::new(),
            jiff::Timestamp::UNIX_EPOCH,
        );
        let serial = raw.value(SERIAL).and_then(|serial| serial.parse().ok());
        let tag = delivery.delivery_tag;
        let Some(serial) = serial else {
            return self.settle(tag, Settle::Ack).await;
        };
        let token = Token {
            serial,
            tag,
            since: Instant::now(),
        };
        self.sort(token).await
    }

    async fn sort(&mut self, token: Token) -> Result<(), Failure> {
        let which = self.which;
        let verdict = self
            .control
            .read(|control| control.tokens(which).judge(token.serial));
        match verdict {
            Verdict::Good => {
                self.tokens.push(token);
                self.account.balance().held += 1;
                self.account.gained.notify_one();
                Ok(())
            }
            Verdict::Wait => {
                self.waiting.push(token);
                Ok(())
            }
            Verdict::Worthless => self.settle(token.tag, Settle::Ack).await,
        }
    }

    async fn settle(&mut self, tag: u64, how: Settle) -> Result<(), Failure> {
        self.pulls.exchange(&[(tag, how)], 0).await
    }

    async fn judge_waiting(&mut self) -> Result<(), Failure> {
        for token in std::mem::take(&mut self.waiting) {
            self.sort(token).await?;
        }
        Ok(())
    }

    /// Takes up the limit in force, and retires idle tokens while there are too many.
    async fn follow_limit(&mut self) -> Result<(), Failure> {
        let which = self.which;
        loop {
            let (worth, surplus) = self
                .control
                .read(|control| (control.worth, control.surplus(which)));
            let spare = {
                let mut balance = self.account.balance();
                balance.worth = match which {
                    Which::Slots => usize::try_from(worth.max(1)).unwrap_or(usize::MAX),
                    Which::Permits => 1,
                };
                balance.surplus = surplus > 0;
                if surplus == 0 || balance.idle() == 0 {
                    None
                } else {
                    balance.held -= 1;
                    self.tokens.pop()
                }
            };
            let Some(token) = spare else {
                break;
            };
            let record = Record::Retiring {
                which,
                serial: token.serial,
            };
            let record = serde_json::to_vec(&record).unwrap_or_default();
            let retired = self
                .control
                .append_and_read(&self.live, Vec::new(), &record)
                .await?;
            if retired {
                self.settle(token.tag, Settle::Ack).await?;
            } else {
                self.sort(token).await?;
            }
        }
        self.account.gained.notify_one();
        Ok(())
    }

    /// Asks for tokens that are missing and gives back those that nobody needs. Returns when to look
    /// again.
    async fn balance_out(&mut self) -> Result<Instant, Failure> {
        let now = Instant::now();
        let (held, demand, idle) = {
            let balance = self.account.balance();
            (balance.held, balance.demand(), balance.idle())
        };
        let coming = self.pulls.open_credit() + self.waiting.len();
        if held + coming < demand {
            self.spare_since = None;
            self.pulls.exchange(&[], demand - held - coming).await?;
            return Ok(now + ROTATION);
        }
        if held + coming > demand {
            let since = *self.spare_since.get_or_insert(now);
            if now < since + GRACE {
                return Ok(since + GRACE);
            }
            self.spare_since = None;
            return self.give_back(demand).await.map(|()| now + ROTATION);
        }
        self.spare_since = None;
        if idle > 0
            && let Some(oldest) = self.tokens.iter().map(|token| token.since).min()
        {
            if now < oldest + ROTATION {
                return Ok(oldest + ROTATION);
            }
            self.rotate().await?;
        }
        Ok(now + ROTATION)
    }

    /// Gives back what is over `demand`. Requests are taken back first, so that nothing comes again.
    async fn give_back(&mut self, demand: usize) -> Result<(), Failure> {
        if self.pulls.open_credit() > 0 {
            for delivery in self.pulls.cancel().await? {
                self.take(&delivery).await?;
            }
        }
        let mut back: Vec<(u64, Settle)> = self
            .waiting
            .drain(..)
            .map(|token| (token.tag, Settle::Requeue))
            .collect();
        {
            let mut balance = self.account.balance();
            let spare = balance.idle().min(balance.held.saturating_sub(demand));
            balance.held -= spare;
            let from = self.tokens.len() - spare.min(self.tokens.len());
            let spare = self.tokens.drain(from..);
            back.extend(spare.map(|token| (token.tag, Settle::Requeue)));
        }
        if back.is_empty() {
            return Ok(());
        }
        self.pulls.exchange(&back, 0).await
    }

    /// Lets somebody else have the oldest token, if somebody waits for one.
    async fn rotate(&mut self) -> Result<(), Failure> {
        let Some(at) = (0..self.tokens.len()).min_by_key(|at| self.tokens[*at].since) else {
            return Ok(());
        };
        {
            let mut balance = self.account.balance();
            if balance.idle() == 0 {
                return Ok(());
            }
            balance.held -= 1;
        }
        let token = self.tokens.remove(at);
        self.pulls
            .exchange(&[(token.tag, Settle::Requeue)], 0)
            .await
    }
}
