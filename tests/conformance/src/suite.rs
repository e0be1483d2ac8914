//! The guarantees, by what they are about.

pub mod consuming;
pub mod dead;
pub mod dedup;
pub mod faults;
pub mod fifo;
pub mod ledger;
pub mod limit;
pub mod publishing;
pub mod reading;
pub mod redrive;
pub mod retry;
pub mod topology;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use self::fifo::{
    dead as fifo_dead, faults as fifo_faults, groups as fifo_groups, hold as fifo_hold,
    lease as fifo_lease, ledger as fifo_ledger, order as fifo_order, rest as fifo_rest,
    topology as fifo_topology,
};
use self::redrive::many as redrive_many;
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
    consuming::what_is_not_wanted_here_goes_to_who_wants_it;
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
    dead::nothing_is_acknowledged_while_dead_letters_cannot_be_stored [ForbidDeadLetters];
    reading::peek_consumes_nothing [Peek];
    reading::depth_counts_what_is_there;
    reading::pages_hold_every_dead_letter_once;
    redrive::records_change_one_at_a_time [Records];
    redrive::a_redrive_killed_at_any_point_loses_and_doubles_nothing [Records];
    redrive_many::many_letters_are_redriven_in_order_over_two_kills [Records];
    redrive_many::fifo_letters_of_a_group_are_redriven_in_order_over_two_kills [Records];
    redrive::ids_stay_and_the_window_of_the_intake_is_bypassed [Records];
    redrive::a_letter_that_dies_again_is_not_redriven_again [Records];
    redrive::only_what_is_asked_for_is_moved [Records];
    redrive::the_rate_is_honoured [Records];
    redrive::a_cancelled_redrive_finishes_what_is_in_hand [Records];
    redrive::letters_go_to_another_queue [Records];
    redrive::one_redrive_at_a_time_and_one_process_each [Records];
    redrive::what_was_exported_is_restored_after_a_purge [Records];
    redrive::a_purge_removes_what_it_has_seen;
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
    fifo_order::fifo_order_is_kept_within_each_group [Fifo];
    fifo_order::fifo_one_turn_of_a_group_at_a_time [Fifo];
    fifo_order::fifo_limit_one_over_four_consumers [Fifo];
    fifo_order::fifo_a_changed_limit_takes_effect [Fifo];
    fifo_order::fifo_a_batch_is_the_front_of_one_group [Fifo];
    fifo_order::fifo_consumers_come_and_go [Fifo];
    fifo_order::fifo_partitions_change_live [Fifo];
    fifo_groups::fifo_a_poisoned_group_stops_no_other [Fifo];
    fifo_groups::fifo_a_long_group_gives_way_to_those_that_wait [Fifo];
    fifo_groups::fifo_hostile_group_names_are_groups [Fifo];
    fifo_groups::fifo_a_delay_holds_its_group_and_no_slot [Fifo];
    fifo_groups::fifo_identities_store_once [Fifo];
    fifo_groups::fifo_depth_and_peek_show_what_is_there [Fifo];
    fifo_lease::fifo_attempts_survive_and_order_holds_over_retries [Fifo];
    fifo_lease::fifo_a_lost_turn_comes_again_in_order [Fifo];
    fifo_lease::fifo_heartbeat_keeps_the_turn [Fifo];
    fifo_lease::fifo_a_lease_that_is_over_starts_nothing [Fifo];
    fifo_rest::fifo_groups_that_rest_cost_no_place_of_the_limit [Fifo];
    fifo_rest::fifo_a_rest_survives_kills [Fifo] (alone);
    fifo_rest::fifo_a_group_rests_again [Fifo];
    fifo_rest::fifo_a_rest_is_whole_after_a_crash_in_it [Fifo, CutConnection, TurnsApart];
    fifo_rest::fifo_a_redrive_ends_a_rest [Fifo];
    fifo_dead::fifo_a_dead_letter_lets_the_group_go_on [Fifo];
    fifo_dead::fifo_a_dead_lettered_group_takes_what_follows [Fifo];
    fifo_dead::fifo_a_redriven_group_keeps_its_order [Fifo];
    fifo_hold::fifo_a_blocked_group_waits_for_its_release [Fifo] (alone);
    fifo_hold::fifo_held_groups_are_listed_in_pages [Fifo];
    fifo_topology::fifo_topology_is_kept [Fifo];
    fifo_faults::fifo_a_message_without_a_turn_is_found [Fifo, CutConnection, TurnsApart];
    fifo_faults::fifo_a_turn_beside_another_takes_nothing_from_it [Fifo, Strangers, TurnsApart];
    fifo_faults::fifo_a_dead_letter_is_single_after_a_crash_between [Fifo, CutConnection];
    fifo_faults::fifo_a_lost_connection_keeps_the_order [Fifo, CutConnection];
    fifo_faults::fifo_a_turn_that_comes_late_is_not_used [Fifo, CutConnection];
    fifo_faults::fifo_a_crash_at_the_end_of_a_turn_leaves_nothing [Fifo, CutConnection];
    fifo_ledger::fifo_every_message_is_handled_once_without_faults [Fifo];
    fifo_ledger::fifo_order_holds_under_kills [Fifo] (alone);
}
