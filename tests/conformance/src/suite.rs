//! The guarantees, by what they are about.

pub mod consuming;
pub mod dead;
pub mod dedup;
pub mod faults;
pub mod ledger;
pub mod limit;
pub mod publishing;
pub mod reading;
pub mod retry;
pub mod topology;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::ground::Ground;
use crate::subject::Feature;

/// One guarantee.
#[derive(Clone, Copy)]
pub struct Guarantee {
    /// What it says, as a sentence with underscores.
    pub name: &'static str,
    /// It disturbs the server, so it must have it for itself.
    pub alone: bool,
    /// What it cannot be tried without.
    pub needs: &'static [Feature],
    /// Tries it; panics where it does not hold.
    pub run: fn(Ground) -> BoxFuture<'static, ()>,
}

macro_rules! guarantees {
    ($($module:ident :: $name:ident $([$($need:ident),+])? $(($alone:ident))?;)+) => {
        /// Every guarantee of the suite.
        pub const ALL: &[Guarantee] = &[$(Guarantee {
            name: stringify!($name),
            alone: guarantees!(@alone $($alone)?),
            needs: &[$($(Feature::$need),+)?],
            run: |ground| $module::$name(ground).boxed(),
        }),+];
    };
    (@alone alone) => { true };
    (@alone) => { false };
}

guarantees! {
    publishing::publish_is_stored_before_it_returns (alone);
    publishing::publish_while_the_server_is_down_fails_fast_and_works_after (alone);
    publishing::messages_at_the_size_limit;
    publishing::hostile_ids_and_headers_round_trip;
    publishing::delay_is_honoured;
    publishing::capacity_is_refused [Capacity];
    limit::limit_is_exact_over_consumers_and_processes;
    limit::lowering_the_limit_drains;
    limit::limit_zero_delivers_nothing;
    limit::permits_bound_batched_calls;
    limit::a_lost_permit_comes_back;
    consuming::nothing_is_prefetched;
    consuming::next_is_cancel_safe;
    consuming::stop_hands_out_what_is_on_its_way;
    consuming::consuming_survives_an_outage (alone);
    consuming::a_consumer_waits_for_its_topology;
    consuming::what_strangers_write_is_delivered [Strangers];
    retry::retry_is_durable_and_holds_no_slot (alone);
    retry::retries_survive_a_kill_of_the_server [ServerKill] (alone);
    retry::attempts_survive_a_kill_of_the_server [ServerKill] (alone);
    retry::attempts_count_calls_that_began;
    retry::a_delivery_that_never_began_is_not_counted;
    retry::give_back_costs_no_attempt;
    retry::lease_expiry_redelivers;
    retry::heartbeat_keeps_the_message;
    retry::a_lease_that_is_over_settles_nothing_but_an_acknowledgement;
    dedup::equal_ids_at_once_store_one;
    dedup::dedup_survives_ack_and_outage (alone);
    dedup::dedup_window_ends;
    dedup::delayed_messages_are_deduplicated;
    dead::dead_letter_is_stored_before_the_source_leaves;
    dead::a_second_death_replaces_the_letter;
    reading::peek_consumes_nothing [Peek];
    reading::depth_counts_what_is_there;
    reading::pages_hold_every_dead_letter_once;
    topology::second_apply_changes_nothing;
    topology::two_processes_may_apply_at_once;
    topology::foreign_stream_is_refused;
    topology::orphans_are_adopted;
    topology::drift_is_repaired;
    topology::retain_keeps_and_delete_removes;
    topology::only_what_is_empty_is_deleted_if_empty;
    topology::the_server_is_supported;
    faults::a_crash_between_schedule_and_ack_retries_once [CutConnection, AtomicHandover];
    faults::dead_letter_is_single_after_a_crash_between [CutConnection, AtomicHandover];
    faults::a_lost_answer_stores_once [CutConnection];
    faults::a_silent_connection_is_noticed [CutConnection];
    ledger::accepted_is_handled_or_dead_under_kills (alone);
}
