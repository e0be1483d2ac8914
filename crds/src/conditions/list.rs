//! How a list of conditions is kept.

use jiff::Timestamp;

use super::{Condition, ConditionStatus, ConditionType, Reason};

/// The condition of this type.
pub fn find(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.is(type_))
}

/// Puts `new` in place of the one of its type, or at the end. The transition time stays as it was
/// unless the status changes.
pub fn set_condition(conditions: &mut Vec<Condition>, mut new: Condition) {
    match conditions.iter_mut().find(|old| old.type_ == new.type_) {
        Some(old) => {
            if old.status == new.status {
                new.last_transition_time = old.last_transition_time;
            }
            *old = new;
        }
        None => conditions.push(new),
    }
}

/// Takes away the condition of this type. Says whether there was one.
pub fn remove_condition(conditions: &mut Vec<Condition>, type_: ConditionType) -> bool {
    let before = conditions.len();
    conditions.retain(|condition| !condition.is(type_));
    conditions.len() != before
}

/// The lists say the same: order and transition times do not count.
pub fn same_conditions(left: &[Condition], right: &[Condition]) -> bool {
    left.len() == right.len()
        && left.iter().all(|one| {
            right.iter().any(|other| {
                one.type_ == other.type_
                    && one.status == other.status
                    && one.reason == other.reason
                    && one.message == other.message
                    && one.observed_generation == other.observed_generation
            })
        })
}

/// `Ready`, from the other conditions: false if one that counts is false or the object is stalled,
/// unknown if one that counts is unknown or none is there. Reason and message are those of the worst
/// one, the first of equals in the order of [`ConditionType`].
pub fn summarise(conditions: &[Condition], now: Timestamp) -> Condition {
    let counting: Vec<&Condition> = ConditionType::ALL
        .iter()
        .filter(|type_| type_.counts_for_ready())
        .filter_map(|type_| find(conditions, *type_))
        .collect();
    let stalled = find(conditions, ConditionType::Stalled)
        .filter(|condition| condition.status == ConditionStatus::True);
    let with = |status| {
        counting
            .iter()
            .copied()
            .find(|condition| condition.status == status)
    };
    let worst = with(ConditionStatus::False)
        .or(stalled)
        .or(with(ConditionStatus::Unknown));
    let mut ready = Condition::new(
        ConditionType::Ready,
        ConditionStatus::Unknown,
        Reason::Pending,
        "not looked at yet",
        now,
    );
    match worst {
        Some(worst) => {
            if worst.status != ConditionStatus::Unknown {
                ready.status = ConditionStatus::False;
            }
            ready.reason.clone_from(&worst.reason);
            ready.message.clone_from(&worst.message);
        }
        None if counting.is_empty() => {}
        None => {
            ready.status = ConditionStatus::True;
            ready.reason = Reason::AsExpected.as_str().into();
            ready.message = String::new();
        }
    }
    ready
}
