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

#[cfg(test)]
mod tests {
    use super::ConditionStatus::{False, True, Unknown};
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn condition(type_: ConditionType, status: ConditionStatus, second: i64) -> Condition {
        Condition::new(
            type_,
            status,
            Reason::AsExpected,
            format!("at {second}"),
            at(second),
        )
    }

    #[test]
    fn transition_time_moves_only_with_the_status() {
        let mut list = vec![condition(ConditionType::Accepted, True, 1)];
        set_condition(&mut list, condition(ConditionType::Accepted, True, 2));
        assert_eq!(
            (list[0].last_transition_time, list[0].message.as_str()),
            (at(1), "at 2")
        );
        set_condition(&mut list, condition(ConditionType::Accepted, False, 3));
        assert_eq!(list[0].last_transition_time, at(3));
        set_condition(&mut list, condition(ConditionType::Ready, True, 4));
        assert_eq!(list.len(), 2);
        assert!(remove_condition(&mut list, ConditionType::Ready));
        assert!(!remove_condition(&mut list, ConditionType::Ready));
    }

    #[test]
    fn order_and_time_do_not_make_a_difference() {
        let (ready, accepted) = (
            condition(ConditionType::Ready, True, 1),
            condition(ConditionType::Accepted, True, 1),
        );
        let mut later = ready.clone();
        later.last_transition_time = at(9);
        let left = [ready.clone(), accepted.clone()];
        assert!(same_conditions(&left, &[accepted.clone(), later]));
        assert!(!same_conditions(
            &left,
            &[accepted.clone(), accepted.clone()]
        ));
        let mut other = accepted.clone();
        other.message.push('!');
        assert!(!same_conditions(&left, &[ready, other]));
        assert!(!same_conditions(&left, &[accepted]));
    }

    #[test]
    fn ready_is_the_worst_of_those_that_count() {
        let status = |list: &[Condition]| summarise(list, at(9)).status;
        let accepted = condition(ConditionType::Accepted, True, 1);
        let handler = condition(ConditionType::HandlerReady, Unknown, 2);
        let topology = condition(ConditionType::TopologyReady, False, 3);
        assert_eq!(status(&[]), Unknown);
        assert_eq!(status(std::slice::from_ref(&accepted)), True);
        assert_eq!(status(&[accepted.clone(), handler.clone()]), Unknown);
        let ready = summarise(&[handler, accepted, topology], at(9));
        assert_eq!((ready.status, ready.message.as_str()), (False, "at 3"));
    }

    #[test]
    fn weather_never_touches_ready() {
        let mut list = vec![condition(ConditionType::Accepted, True, 1)];
        for weather in ConditionType::ALL
            .iter()
            .filter(|type_| type_.only_when_true())
        {
            if !matches!(weather, ConditionType::Stalled) {
                list.push(condition(*weather, True, 2));
            }
        }
        list.push(condition(ConditionType::ScalerReady, False, 2));
        assert_eq!(summarise(&list, at(9)).status, True);
        list.push(condition(ConditionType::Stalled, True, 2));
        assert_eq!(summarise(&list, at(9)).status, False);
    }

    #[test]
    fn names_fit_what_the_schema_allows() {
        let fits = |name: &str| {
            name.len() <= 64
                && name.starts_with(|first: char| first.is_ascii_uppercase())
                && name.chars().all(|letter| letter.is_ascii_alphabetic())
        };
        assert!(ConditionType::ALL.iter().all(|type_| fits(type_.as_str())));
        assert!(
            Reason::ALL
                .iter()
                .all(|reason| fits(reason.as_str()) && reason.text().len() > 20)
        );
        assert!(
            super::super::Event::ALL
                .iter()
                .all(|event| fits(event.as_str()))
        );
    }

    #[test]
    fn a_condition_is_written_as_kubernetes_writes_it() {
        let condition = condition(ConditionType::Ready, True, 0).of_generation(Some(3));
        assert_eq!(
            serde_json::to_value(&condition).unwrap(),
            serde_json::json!({
                "type": "Ready", "status": "True", "observedGeneration": 3,
                "lastTransitionTime": "1970-01-01T00:00:00Z",
                "reason": "AsExpected", "message": "at 0"
            })
        );
    }
}
